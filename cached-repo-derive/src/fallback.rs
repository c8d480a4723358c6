//! What is emitted beside the errors: the same items, with nothing in them that could fail for
//! a reason already reported, so that one mistake gives one error.
//!
//! A struct whose shape is wrong gets no items: SeaORM's derives stop there too.

use crate::model::{Codec, Model, Versioning};

/// Removes from the model what the errors may be about.
pub(crate) fn neutralise(model: &mut Model) {
    // The methods stay, what they are based on may be what is wrong.
    model.mistaken = true;
    // Without the mistake the model may have been versioned: its callers are not to blame.
    model.versioning = Versioning::Unknown;
    for field in &mut model.fields {
        // A version of the wrong type is reported as such, whether it has serde or not.
        if field.attrs.version.is_some() && !matches!(field.codec, Codec::Ignored) {
            field.codec = Codec::Unknown;
        }
    }
}
