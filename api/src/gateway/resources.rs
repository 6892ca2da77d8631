//! Which resources a Kubernetes 1.36 API server serves by default, and how they hang together. `resources/resources.txt`
//! holds the names, which `scripts/kubernetes-schema` takes from a server's own discovery.

use std::{collections::HashMap, sync::OnceLock};

use super::schema::{TypeId, schema};

mod read;

/// Everything that is served.
#[derive(Debug)]
pub struct Resources {
    groups: Vec<Group>,
    places: HashMap<&'static str, Vec<(usize, usize, usize)>>,
}

/// An API group. The core group's name is empty.
#[derive(Debug)]
pub struct Group {
    /// Such as `apps`.
    pub name: &'static str,
    /// In the order of discovery: the preferred one first.
    pub versions: Vec<Version>,
}

/// A version of a group.
#[derive(Debug)]
pub struct Version {
    /// Such as `v1`.
    pub name: &'static str,
    /// By name.
    pub resources: Vec<Resource>,
}

/// One resource.
#[derive(Debug)]
pub struct Resource {
    /// Its group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Such as `pods`.
    pub plural: &'static str,
    /// Such as `pod`.
    pub singular: &'static str,
    /// Such as `Pod`.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What may be asked of it.
    pub verbs: Vec<&'static str>,
    /// Such as `po`.
    pub short_names: Vec<&'static str>,
    /// Such as `all`.
    pub categories: Vec<&'static str>,
    /// What stands before namespace and name in its keys, without slashes around it.
    pub storage: &'static str,
    /// The group and version whose form is stored: its own, or the one that it shares its keys with.
    pub stored: (&'static str, &'static str),
    /// Such as `status`.
    pub subresources: Vec<Subresource>,
}

/// Something below a single object.
#[derive(Debug)]
pub struct Subresource {
    /// Such as `scale`.
    pub name: &'static str,
    /// The group of its kind, its resource's own where upstream's discovery leaves it out.
    pub group: &'static str,
    /// The version of its kind.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Whether its kind lies in another group or version than the resource.
    pub foreign: bool,
    /// What may be asked of it.
    pub verbs: Vec<&'static str>,
}

/// The table.
pub fn resources() -> &'static Resources {
    static RESOURCES: OnceLock<Resources> = OnceLock::new();
    RESOURCES.get_or_init(read::read)
}

impl Resources {
    /// The groups in the order of discovery, the core group first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group by its name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// A resource by its plural.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        let mut found = self.places.get(plural)?.iter().map(|place| self.at(*place));
        found.find(|resource| resource.group == group && resource.version == version)
    }

    /// A resource by its kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        let group = self.group(group)?;
        let version = group.versions.iter().find(|candidate| candidate.name == version)?;
        version.resources.iter().find(|resource| resource.kind == kind)
    }

    /// Every resource of every version.
    pub fn all(&self) -> impl Iterator<Item = &Resource> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.resources)
    }

    fn at(&self, (group, version, resource): (usize, usize, usize)) -> &Resource {
        &self.groups[group].versions[version].resources[resource]
    }
}

impl Resource {
    /// Whether what is stored has its own version, not one that it shares its keys with.
    pub fn is_stored_as_it_is(&self) -> bool {
        self.stored == (self.group, self.version)
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// The kind of its lists.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The type of its objects.
    pub fn ty(&self) -> Option<TypeId> {
        schema().kind(self.group, self.version, self.kind)
    }

    /// Whether it may be asked this.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// What lies below its objects under this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

impl Subresource {
    /// The type of its objects.
    pub fn ty(&self) -> Option<TypeId> {
        schema().kind(self.group, self.version, self.kind)
    }

    /// Whether it may be asked this.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

/// A group and version as objects name them.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_found_by_group_version_and_plural() {
        let deployments = resources().get("apps", "v1", "deployments").unwrap();
        assert_eq!(deployments.kind, "Deployment");
        assert_eq!(deployments.short_names, ["deploy"]);
        assert!(deployments.namespaced && deployments.allows("deletecollection"));
        let scale = deployments.subresource("scale").unwrap();
        assert_eq!((scale.group, scale.version, scale.kind), ("autoscaling", "v1", "Scale"));
        assert_eq!(deployments.subresource("status").unwrap().kind, "Deployment");
        assert!(resources().get("", "v1", "deployments").is_none());
        assert_eq!(resources().get("", "v1", "nodes").unwrap().storage, "minions");
        assert_eq!(resources().of_kind("", "v1", "Endpoints").unwrap().storage, "services/endpoints");
    }

    #[test]
    fn resources_that_share_their_keys_name_one_stored_version() {
        let mut stored: HashMap<&str, (&str, &str, &str)> = HashMap::new();
        for resource in resources().all() {
            let form = (resource.stored.0, resource.stored.1, resource.kind);
            assert_eq!(*stored.entry(resource.storage).or_insert(form), form, "{}", resource.plural);
        }
        let v1 = resources().get("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!(v1.stored, ("autoscaling", "v2"));
    }

    #[test]
    fn every_resource_and_subresource_has_a_type() {
        for resource in resources().all() {
            assert!(resource.ty().is_some(), "{resource:?}");
            if resource.allows("list") {
                assert!(
                    schema().kind(resource.group, resource.version, &resource.list_kind()).is_some(),
                    "{resource:?}"
                );
            }
            for subresource in &resource.subresources {
                assert!(subresource.ty().is_some(), "{resource:?}");
            }
        }
        assert!(resources().all().count() > 60);
    }
}
