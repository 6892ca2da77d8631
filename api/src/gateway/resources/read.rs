//! Reads `resources.txt`. It is part of the program, so a malformed line is a bug and stops the start.

use super::{Group, Resource, Resources, Subresource, Version};

const FILE: &str = include_str!("resources.txt");

pub(super) fn read() -> Resources {
    let mut resources = Resources { groups: Vec::new(), places: Default::default() };
    for line in FILE.lines().filter(|line| !line.starts_with('#')) {
        let (letter, rest) = line.split_at_checked(2).unwrap_or_else(|| malformed(line));
        match letter {
            "g " => resources.groups.push(Group { name: rest, versions: Vec::new() }),
            _ => add(&mut resources, letter, rest).unwrap_or_else(|| malformed(line)),
        }
    }
    resources
}

#[expect(clippy::panic, reason = "the file is compiled in, and every test reads it")]
fn malformed(line: &str) -> ! {
    panic!("resources.txt has a line that is none: {line:?}")
}

fn add(resources: &mut Resources, letter: &str, rest: &'static str) -> Option<()> {
    let group_at = resources.groups.len().checked_sub(1)?;
    let group = resources.groups.get_mut(group_at)?;
    if letter == "v " {
        group.versions.push(Version { name: rest, resources: Vec::new() });
        return Some(());
    }
    let version_at = group.versions.len().checked_sub(1)?;
    let version = group.versions.get_mut(version_at)?;
    match letter {
        "r " => {
            let resource = resource(group.name, version.name, rest)?;
            let place = (group_at, version_at, version.resources.len());
            resources.places.entry(resource.plural).or_default().push(place);
            version.resources.push(resource);
        }
        "s " => {
            let resource = version.resources.last_mut()?;
            resource.subresources.push(subresource(resource, rest)?);
        }
        _ => return None,
    }
    Some(())
}

fn resource(group: &'static str, version: &'static str, columns: &'static str) -> Option<Resource> {
    let mut columns = columns.split('|');
    let (plural, singular, kind) = (columns.next()?, columns.next()?, columns.next()?);
    let namespaced = columns.next()? == "N";
    let (verbs, short_names, categories) = (columns.next()?, columns.next()?, columns.next()?);
    let storage = columns.next()?;
    let stored = match columns.next() {
        Some(stored) => stored.split_once('/').unwrap_or(("", stored)),
        None => (group, version),
    };
    Some(Resource {
        group,
        version,
        plural,
        singular,
        kind,
        namespaced,
        verbs: words(verbs),
        short_names: words(short_names),
        categories: words(categories),
        storage,
        stored,
        subresources: Vec::new(),
    })
}

fn subresource(resource: &Resource, columns: &'static str) -> Option<Subresource> {
    let mut columns = columns.split('|');
    let (name, group, version, kind) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let foreign = !version.is_empty();
    Some(Subresource {
        name,
        group: if foreign { group } else { resource.group },
        version: if foreign { version } else { resource.version },
        kind,
        foreign,
        verbs: words(columns.next()?),
    })
}

fn words(text: &'static str) -> Vec<&'static str> {
    text.split(',').filter(|word| !word.is_empty()).collect()
}
