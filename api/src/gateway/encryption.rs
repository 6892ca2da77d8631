//! Encryption at rest: what the store keeps of the resources that a configuration names is encrypted.

mod first_use;
mod instances;
mod inventory;
mod place;
mod rotation;
mod store;
mod times;
mod writes;

#[cfg(test)]
mod tests;

pub use self::{
    first_use::FirstUse,
    instances::Announcer,
    inventory::{Configured, Inventory, Keys, Usage},
    rotation::{Figures, Proof, Rotation, RotationState, rotation},
    store::EncryptedStore,
    times::Written,
    writes::{KeyUse, KeyWrites, WriteBounds},
};
