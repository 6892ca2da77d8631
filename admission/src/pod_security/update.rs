//! Which updates of a Pod are worth a look: most fields cannot change, and labels may.

use crate::pod::{Container, PodSpec};

/// Whether an update brings a container or an image that was not there.
pub(super) fn is_significant(new: Option<&PodSpec<'_>>, old: Option<&PodSpec<'_>>) -> bool {
    let none = PodSpec::default();
    let (new, old) = (new.unwrap_or(&none), old.unwrap_or(&none));
    differ(new.containers(), old.containers())
        || differ(new.init_containers(), old.init_containers())
        || new.ephemeral_containers().iter().any(|container| {
            let before = old.ephemeral_containers().iter().find(|other| other.name() == container.name());
            before.is_none_or(|before| before.image() != container.image())
        })
}

fn differ(new: &[Container<'_>], old: &[Container<'_>]) -> bool {
    new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new.image() != old.image())
}
