//! The table of types, read once from `types.txt`, which `scripts/kubernetes-schema` derives from upstream's Go structs.

use std::{collections::HashMap, sync::OnceLock};

mod read;
mod shape;

pub use shape::Shape;

/// A type's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u16);

impl TypeId {
    /// What is known of the type.
    pub fn get(self) -> &'static Type {
        &schema().types[self.index()]
    }

    /// The place as a number, for tables beside this one.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Every type and kind that upstream's API server registers.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    kinds: HashMap<&'static str, HashMap<&'static str, Kinds>>,
}

/// Kinds by name.
type Kinds = Vec<(&'static str, TypeId)>;

impl Schema {
    /// The type of a kind, such as `apps`, `v1`, `Deployment`. The core group is the empty text.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        let kinds = self.kinds.get(group)?.get(version)?;
        kinds.binary_search_by(|(name, _)| (*name).cmp(kind)).ok().map(|found| kinds[found].1)
    }

    /// The kinds of a group and version, by name.
    pub fn kinds(&self, group: &str, version: &str) -> &[(&'static str, TypeId)] {
        self.kinds.get(group).and_then(|versions| versions.get(version)).map_or(&[], Vec::as_slice)
    }

    /// A type by its Go package and name, such as `core/v1.PodSpec`.
    pub fn type_named(&self, name: &str) -> Option<TypeId> {
        let found = self.types.iter().position(|ty| ty.name == name)?;
        u16::try_from(found).ok().map(TypeId)
    }

    /// Every type, in the table's order.
    pub fn types(&self) -> impl Iterator<Item = TypeId> {
        (0..self.types.len()).filter_map(|at| u16::try_from(at).ok().map(TypeId))
    }
}

/// The table. The first call reads it, in a few milliseconds.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(read::read)
}

/// One Go struct.
#[derive(Debug)]
pub struct Type {
    /// Package and name, such as `core/v1.PodSpec`.
    pub name: &'static str,
    fields: Vec<Field>,
    /// What its JSON object holds, those of inlined structs at their place.
    members: Vec<(TypeId, u16)>,
    by_name: Vec<u16>,
    by_number: Vec<u16>,
}

impl Type {
    /// The fields that the struct itself has, in Go's order; an inlined struct is one of them.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The members of its JSON object, in the order in which upstream writes them.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &'static Field> + '_ {
        self.members.iter().map(|(owner, index)| &owner.get().fields[usize::from(*index)])
    }

    /// The member of this name and its place among [`Type::members`].
    pub fn member(&self, name: &str) -> Option<(usize, &'static Field)> {
        let at = |slot: u16| {
            let (owner, index) = self.members[usize::from(slot)];
            &owner.get().fields[usize::from(index)]
        };
        let found = self.by_name.binary_search_by(|slot| at(*slot).name.cmp(name)).ok()?;
        let slot = self.by_name[found];
        Some((usize::from(slot), at(slot)))
    }

    /// Its own field of this protobuf number.
    pub fn numbered(&self, number: u32) -> Option<&Field> {
        let at = |index: u16| &self.fields[usize::from(index)];
        let found =
            self.by_number.binary_search_by(|index| u32::from(at(*index).number).cmp(&number)).ok()?;
        Some(at(self.by_number[found]))
    }

    /// Its own fields that protobuf knows, by ascending number.
    pub fn on_the_wire(&self) -> impl DoubleEndedIterator<Item = &Field> {
        self.by_number.iter().map(|index| &self.fields[usize::from(*index)])
    }

    /// The name that Go prints, such as `v1.PodSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }

    /// The name without its package, such as `PodSpec`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    /// The JSON name; empty for an inlined struct.
    pub name: &'static str,
    /// The protobuf number; 0 where protobuf has no such field.
    pub number: u16,
    /// The form of its value.
    pub shape: Shape,
    /// A pointer in Go: absent and zero differ.
    pub pointer: bool,
    /// Its members are members of the struct that it is in.
    pub inline: bool,
    /// Left out of JSON when it is Go's empty value (never for structs).
    pub omit_empty: bool,
    /// Left out of JSON when it is Go's zero value.
    pub omit_zero: bool,
    /// Upstream's OpenAPI demands it.
    pub required: bool,
    /// A strategic merge patch merges its elements (lists only).
    pub patch_merge: bool,
    /// A strategic merge patch replaces it whole though it is an object.
    pub patch_replace: bool,
    /// A strategic merge patch may say which keys stay.
    pub patch_retain_keys: bool,
    /// The member that tells the elements of a merged list apart; empty for lists of scalars.
    pub merge_key: &'static str,
    /// What server-side apply makes of it.
    pub list_type: ListType,
    /// The members that tell elements apart for server-side apply, joined by commas.
    pub list_keys: &'static str,
    /// Where its first member is among the members of the struct that it is in.
    slot: u16,
}

impl Field {
    /// Where its first member is among the members of the struct that it is in.
    pub fn slot(&self) -> usize {
        usize::from(self.slot)
    }

    /// The member names that tell elements apart for server-side apply.
    pub fn list_keys(&self) -> impl Iterator<Item = &'static str> {
        self.list_keys.split(',').filter(|key| !key.is_empty())
    }
}

/// `x-kubernetes-list-type` or `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Upstream says nothing.
    #[default]
    Unsaid,
    /// One value as a whole.
    Atomic,
    /// A list of different scalars.
    Set,
    /// A list of objects told apart by keys.
    Map,
    /// An object whose members are owned one by one.
    Granular,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_fields_of_upstream() {
        let pod = schema().kind("", "v1", "Pod").unwrap().get();
        assert_eq!(pod.name, "core/v1.Pod");
        let names: Vec<_> = pod.members().map(|field| field.name).collect();
        assert_eq!(names, ["kind", "apiVersion", "metadata", "spec", "status"]);
        let Shape::Message(spec) = pod.member("spec").unwrap().1.shape else { panic!("spec is an object") };
        let (_, containers) = spec.get().member("containers").unwrap();
        assert_eq!(containers.number, 2);
        assert!(containers.patch_merge && containers.required);
        assert_eq!(containers.merge_key, "name");
        assert_eq!(containers.shape.go_name(), "[]v1.Container");
        assert!(schema().kind("", "v1", "Pods").is_none());
    }

    #[test]
    fn members_of_inlined_structs_are_members() {
        let volume = schema().type_named("core/v1.Volume").unwrap().get();
        assert!(volume.member("emptyDir").is_some());
        assert!(volume.member("volumeSource").is_none());
        let inline = volume.numbered(2).unwrap();
        assert!(inline.inline);
        assert_eq!(volume.members().nth(inline.slot()).unwrap().name, "hostPath");
    }

    #[test]
    fn no_two_members_of_a_type_share_a_name() {
        for ty in schema().types().map(TypeId::get) {
            let mut names: Vec<_> = ty.members().map(|field| field.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{}", ty.name);
        }
    }
}
