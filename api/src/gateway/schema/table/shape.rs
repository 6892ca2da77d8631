//! The form of a field's value.

use super::TypeId;

/// What a value looks like in JSON and on the wire.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// A text; the Go type where it has a name of its own, else empty.
    Text(&'static str),
    /// 32 bits with sign; the Go type likewise.
    Int32(&'static str),
    /// 64 bits with sign; the Go type likewise.
    Int64(&'static str),
    /// True or false; the Go type likewise.
    Bool(&'static str),
    /// 64 bits, floating.
    Float,
    /// base64 in JSON.
    Bytes,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    /// Go's text of a duration.
    Duration,
    /// An amount with a suffix.
    Quantity,
    /// Either of both.
    IntOrText,
    /// An object of any kind (`RawExtension`).
    Raw,
    /// A set of fields (`FieldsV1`).
    Fields,
    /// Any JSON, in CustomResourceDefinitions.
    Json,
    /// A schema or a bool, there.
    SchemaOrBool(TypeId),
    /// A schema or a list of them, there.
    SchemaOrList(TypeId),
    /// A schema or a list of texts, there.
    SchemaOrTexts(TypeId),
    /// A struct.
    Message(TypeId),
    /// A list.
    List(Box<Shape>),
    /// A list that is a message of its own on the wire.
    Wrapped(Box<Shape>),
    /// An object from texts to values.
    Map(Box<Shape>),
}

impl Shape {
    /// The Go type as Go prints it, such as `[]v1.Container`.
    pub fn go_name(&self) -> String {
        match self {
            Self::Text(name) => or(name, "string"),
            Self::Int32(name) => or(name, "int32"),
            Self::Int64(name) => or(name, "int64"),
            Self::Bool(name) => or(name, "bool"),
            Self::Float => "float64".to_owned(),
            Self::Bytes => "[]uint8".to_owned(),
            Self::Time => "v1.Time".to_owned(),
            Self::MicroTime => "v1.MicroTime".to_owned(),
            Self::Duration => "v1.Duration".to_owned(),
            Self::Quantity => "resource.Quantity".to_owned(),
            Self::IntOrText => "intstr.IntOrString".to_owned(),
            Self::Raw => "runtime.RawExtension".to_owned(),
            Self::Fields => "v1.FieldsV1".to_owned(),
            Self::Json => "v1.JSON".to_owned(),
            Self::SchemaOrBool(_) => "v1.JSONSchemaPropsOrBool".to_owned(),
            Self::SchemaOrList(_) => "v1.JSONSchemaPropsOrArray".to_owned(),
            Self::SchemaOrTexts(_) => "v1.JSONSchemaPropsOrStringArray".to_owned(),
            Self::Message(ty) => ty.get().go_name().to_owned(),
            Self::List(inner) | Self::Wrapped(inner) => format!("[]{}", inner.go_name()),
            Self::Map(inner) => format!("map[string]{}", inner.go_name()),
        }
    }
}

fn or(name: &str, plain: &str) -> String {
    if name.is_empty() { plain } else { name }.to_owned()
}
