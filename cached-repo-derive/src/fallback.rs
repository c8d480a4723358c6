//! What is expanded after an error: the same items, without the parts that could fail for the reason
//! that is already reported. Callers of the items get no errors, so one mistake gives one error.
//!
//! A struct with a shape that no model has gets no items. SeaORM's derives stop there too.

use crate::{
    ir::{Codec, Model, Versioning},
    syntax::StructSyntax,
};

/// Removes from the model whatever the errors may be about.
pub(crate) fn neutralise(input: &StructSyntax, model: &mut Model) {
    model.has_errors = true;
    // The corrected model may have a version, so methods that need one must stay callable.
    model.versioning = Versioning::Unknown;
    for (field, written) in model.fields.iter_mut().zip(&input.fields) {
        // The error about the version's type is enough: its serde does not matter.
        if written.attrs.version.is_some() && !written.attrs.sea_orm.ignore {
            field.codec = Codec::Unknown;
        }
    }
}
