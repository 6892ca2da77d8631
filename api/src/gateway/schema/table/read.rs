//! Reads `types.txt`. It is part of the program, so a malformed line is a bug and stops the start.

use super::{Field, ListType, Schema, Shape, Type, TypeId};

const FILE: &str = include_str!("../types.txt");

pub(super) fn read() -> Schema {
    let mut schema = Schema { types: Vec::new(), kinds: Default::default() };
    for line in FILE.lines() {
        match line.split_at_checked(2) {
            Some(("t ", name)) => schema.types.push(empty(name)),
            Some(("f ", columns)) => {
                let Some(ty) = schema.types.last_mut() else { malformed(line) };
                ty.fields.push(field(columns).unwrap_or_else(|| malformed(line)));
            }
            Some(("k ", columns)) => kind(&mut schema, columns).unwrap_or_else(|| malformed(line)),
            _ => {}
        }
    }
    for kinds in schema.kinds.values_mut().flat_map(|versions| versions.values_mut()) {
        kinds.sort_unstable_by_key(|(name, _)| *name);
    }
    for at in 0..schema.types.len() {
        lay_out(&mut schema.types, at);
    }
    for at in 0..schema.types.len() {
        order(&mut schema.types, at);
    }
    schema
}

#[expect(clippy::panic, reason = "the file is compiled in, and every test reads it")]
fn malformed(line: &str) -> ! {
    panic!("types.txt has a line that is none: {line:?}")
}

fn empty(name: &'static str) -> Type {
    Type { name, fields: Vec::new(), members: Vec::new(), by_name: Vec::new(), by_number: Vec::new() }
}

fn kind(schema: &mut Schema, columns: &'static str) -> Option<()> {
    let mut columns = columns.split('|');
    let (group, version, kind) = (columns.next()?, columns.next()?, columns.next()?);
    let ty = TypeId(columns.next()?.parse().ok()?);
    schema.kinds.entry(group).or_default().entry(version).or_default().push((kind, ty));
    Some(())
}

fn field(columns: &'static str) -> Option<Field> {
    let mut columns = columns.split('|');
    let name = columns.next()?;
    let number = columns.next()?.parse().ok()?;
    let shape = shape(columns.next()?)?;
    let flags = columns.next().unwrap_or_default();
    let strategies = columns.next().unwrap_or_default();
    let merge_key = columns.next().unwrap_or_default();
    let list_type = list_type(columns.next().unwrap_or_default())?;
    let list_keys = columns.next().unwrap_or_default();
    let strategy = |name: &str| strategies.split(',').any(|strategy| strategy == name);
    Some(Field {
        name,
        number,
        shape,
        pointer: flags.contains('p'),
        inline: flags.contains('n'),
        omit_empty: flags.contains('o'),
        omit_zero: flags.contains('z'),
        required: flags.contains('r'),
        patch_merge: strategy("merge"),
        patch_replace: strategy("replace"),
        patch_retain_keys: strategy("retainKeys"),
        merge_key,
        list_type,
        list_keys,
        slot: 0,
    })
}

fn list_type(text: &str) -> Option<ListType> {
    Some(match text {
        "" => ListType::Unsaid,
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => ListType::Map,
        "granular" => ListType::Granular,
        _ => return None,
    })
}

fn shape(text: &'static str) -> Option<Shape> {
    if let Some(inner) = text.strip_prefix("[]") {
        return Some(Shape::List(Box::new(shape(inner)?)));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return Some(Shape::Map(Box::new(shape(inner)?)));
    }
    let (letter, rest) = text.split_at_checked(1)?;
    let id = || rest.parse().ok().map(TypeId);
    let name = rest.strip_prefix(':').unwrap_or_default();
    Some(match letter {
        "s" => Shape::Text(name),
        "i" => Shape::Int32(name),
        "l" => Shape::Int64(name),
        "b" => Shape::Bool(name),
        "f" => Shape::Float,
        "y" => Shape::Bytes,
        "T" => Shape::Time,
        "U" => Shape::MicroTime,
        "D" => Shape::Duration,
        "Q" => Shape::Quantity,
        "I" => Shape::IntOrText,
        "R" => Shape::Raw,
        "V" => Shape::Fields,
        "J" => Shape::Json,
        "B" => Shape::SchemaOrBool(id()?),
        "A" => Shape::SchemaOrList(id()?),
        "P" => Shape::SchemaOrTexts(id()?),
        "#" => Shape::Message(id()?),
        "w" => Shape::Wrapped(Box::new(shape(rest)?)),
        _ => return None,
    })
}

/// Gives a type its members, those of inlined structs at their place.
fn lay_out(types: &mut [Type], at: usize) {
    if !types[at].members.is_empty() {
        return;
    }
    let mut members = Vec::with_capacity(types[at].fields.len());
    for index in 0..types[at].fields.len() {
        types[at].fields[index].slot = members.len() as u16;
        let inlined = match (&types[at].fields[index].shape, types[at].fields[index].inline) {
            (Shape::Message(TypeId(inner)), true) => Some(usize::from(*inner)),
            _ => None,
        };
        match inlined {
            Some(inner) => {
                lay_out(types, inner);
                members.extend_from_slice(&types[inner].members);
            }
            None => members.push((TypeId(at as u16), index as u16)),
        }
    }
    types[at].members = members;
}

/// Orders a type's members by name and its fields by number.
fn order(types: &mut [Type], at: usize) {
    let ty = &types[at];
    let name = |slot: &u16| {
        let (TypeId(owner), index) = ty.members[usize::from(*slot)];
        types[usize::from(owner)].fields[usize::from(index)].name
    };
    let mut by_name: Vec<u16> = (0..ty.members.len() as u16).collect();
    by_name.sort_unstable_by_key(name);
    let mut by_number: Vec<u16> = (0..ty.fields.len() as u16).collect();
    by_number.retain(|index| ty.fields[usize::from(*index)].number > 0);
    by_number.sort_unstable_by_key(|index| ty.fields[usize::from(*index)].number);
    types[at].by_name = by_name;
    types[at].by_number = by_number;
}
