//! Encryption at rest: what the store keeps of the resources that a configuration names is encrypted.

mod inventory;
mod place;
mod rotation;
mod store;
mod writes;

#[cfg(test)]
mod tests;

pub use self::{
    inventory::{Inventory, Keys, Usage},
    rotation::{Figures, Proof, Rotation, RotationState, rotation},
    store::EncryptedStore,
    writes::{KeyUse, KeyWrites, WriteBounds},
};
