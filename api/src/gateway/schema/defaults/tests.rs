use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::gateway::schema::decode;

/// Objects that we wrote, and what upstream's defaulting made of them.
const RECORDED: &str = include_str!("recorded.jsonl");

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    given: &'a RawValue,
    #[serde(borrow)]
    defaulted: &'a RawValue,
}

fn read(json: &RawValue) -> (TypeId, Map<String, Value>) {
    let object: Map<String, Value> = serde_json::from_str(json.get()).unwrap();
    let (api_version, kind) = (text(&object, "apiVersion"), text(&object, "kind"));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let ty = schema().kind(group, version, kind).unwrap_or_else(|| panic!("{api_version} {kind}"));
    (ty, decode::json(ty, json.get().as_bytes()).unwrap().object)
}

#[test]
fn objects_get_the_defaults_that_upstream_gives_them() {
    let mut wrong = Vec::new();
    for line in RECORDED.lines() {
        let line: Line<'_> = serde_json::from_str(line).unwrap();
        let (ty, mut object) = read(line.given);
        set(ty, &mut object);
        let (_, theirs) = read(line.defaulted);
        // As text: the order of members counts too.
        let text = |object: &Map<String, Value>| serde_json::to_string(object).unwrap();
        let first = text(&object);
        set(ty, &mut object);
        if first != text(&theirs) || text(&object) != first {
            wrong.push(format!("{first}\ninstead of\n{}", text(&theirs)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_rule_names_a_type_and_members_that_there_are() {
    for (name, members) in rules::MEMBERS {
        let ty = schema().type_named(name).unwrap_or_else(|| panic!("{name}")).get();
        for (member, json) in *members {
            assert!(ty.member(member).is_some(), "{name} {member}");
            assert!(serde_json::from_str::<Value>(json).is_ok(), "{name} {member}");
        }
    }
    for (name, _) in rules::RULES {
        assert!(schema().type_named(name).is_some(), "{name}");
    }
}
