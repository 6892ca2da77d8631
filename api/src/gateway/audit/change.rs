//! One change of the store, as it is announced before it is made.

use std::{fmt, str::FromStr};

use crate::gateway::store::Revision;

/// A key that is about to be changed, from which state, and what it is to become.
///
/// Written as `KEY@REVISION DIGEST`: the revision of the state that the change is made from, of an absent key one at
/// which it is not there yet, and a digest of the new value, `-` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) from: Revision,
    pub(super) digest: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.key, self.from, self.digest.as_deref().unwrap_or("-"))
    }
}

/// A text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no announced change")]
pub(super) struct NoChange;

impl FromStr for Change {
    type Err = NoChange;

    fn from_str(text: &str) -> Result<Self, NoChange> {
        let (place, digest) = text.rsplit_once(' ').ok_or(NoChange)?;
        let (key, from) = place.rsplit_once('@').ok_or(NoChange)?;
        let from = Revision(from.parse().map_err(|_| NoChange)?);
        let digest = (digest != "-").then(|| digest.to_owned());
        Ok(Self { key: key.to_owned(), from, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_as_it_was_written() {
        for (digest, text) in [(Some("5f00"), "roles/shop/a@b@12 5f00"), (None, "roles/shop/a@b@12 -")] {
            let change = Change {
                key: "roles/shop/a@b".into(),
                from: Revision(12),
                digest: digest.map(str::to_owned),
            };
            assert_eq!(change.to_string(), text);
            assert_eq!(text.parse(), Ok(change));
        }
        for text in ["", "a", "a@1", "a@x -", "a -"] {
            assert_eq!(text.parse::<Change>(), Err(NoChange), "{text}");
        }
    }
}
