//! Which of many keys are the same: each has the place of its first occurrence.
//!
//! Does not hold the keys: whoever lists them does.

use std::collections::HashMap;

use quick_cache::DefaultHashBuilder;

use crate::protocol::Key;

/// Where in a list a key is, by its fingerprint.
#[derive(Debug, Default)]
pub(crate) struct Places(HashMap<u32, usize, DefaultHashBuilder>);

impl Places {
    pub(crate) fn with_capacity(keys: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(
            keys,
            DefaultHashBuilder::default(),
        ))
    }

    /// The place of `key` in a list of `len` keys, of which `at` gives the one at a place; `len` if it
    /// is to be appended. Of two keys with one fingerprint the second one is appended each time.
    pub(crate) fn of<'a>(
        &mut self,
        key: &Key,
        len: usize,
        at: impl FnOnce(usize) -> Option<&'a Key>,
    ) -> usize {
        let place = *self.0.entry(key.fingerprint()).or_insert(len);
        if at(place) == Some(key) { place } else { len }
    }

    /// Forgets them all.
    #[cfg(feature = "redis")]
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::KeySpace;

    /// Goal: equal keys have one place, and no two different ones do, whatever their fingerprints.
    #[test]
    fn a_place_is_that_of_an_equal_key() {
        let space = KeySpace::new("shop", "setting");
        // The second and the third have one fingerprint.
        let names = [
            "a", "plumless", "buckeroo", "a", "plumless", "buckeroo", "b",
        ];
        let (mut places, mut listed) = (Places::default(), Vec::new());
        for name in names {
            let key = space.row(name);
            let place = places.of(&key, listed.len(), |place| listed.get(place));
            if place == listed.len() {
                listed.push(key.clone());
            }
            assert_eq!(listed[place], key);
        }
        assert_eq!(listed[1].fingerprint(), listed[2].fingerprint());
        let listed: Vec<&str> = listed.iter().map(Key::as_str).collect();
        let id = |key: &&str| key.strip_prefix("shop:setting:").unwrap().to_owned();
        let ids: Vec<String> = listed.iter().map(id).collect();
        assert_eq!(ids, ["a", "plumless", "buckeroo", "buckeroo", "b"]);
    }
}
