//! Why a request is refused, with everything that a Kubernetes `Status` says about it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{quote::Quoted, request::AdmissionRequest, response::Notes};

/// One cause among a status's details.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// A word for programs, such as `FieldValueInvalid`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// The path of the field, such as `metadata.namespace`.
    pub field: String,
}

/// What a denial speaks of, as a status's details have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The API group.
    pub group: String,
    /// The resource, or the kind where the object itself is invalid.
    pub kind: String,
    /// The object's name.
    pub name: String,
}

/// A refusal. A string becomes one with code 403, and the chain puts before its text what was forbidden:
/// `pods "web" is forbidden: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The HTTP status.
    pub code: u16,
    /// The word that programs go by, such as `Forbidden`.
    pub reason: String,
    /// The sentence that people read.
    pub message: String,
    /// The causes, which clients print or act upon.
    pub causes: Vec<Cause>,
    /// What is refused; the chain fills it in for a bare 403.
    pub subject: Option<Box<Subject>>,
    /// Annotations for the audit event, kept although the request is refused.
    pub annotations: BTreeMap<String, String>,
    /// Sentences that the client shows its user although the request is refused.
    pub warnings: Arc<Vec<String>>,
}

impl Denial {
    /// A denial with a code and a reason, whose message stands as it is.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            causes: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
            warnings: Arc::default(),
        }
    }

    /// 403: the request is understood and refused.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404: something that the request needs is not there.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let dot = if group.is_empty() { "" } else { "." };
        let subject = Subject { group: group.to_owned(), kind: resource.to_owned(), name: name.to_owned() };
        let message = format!("{resource}{dot}{group} {} not found", Quoted(name));
        Self { subject: Some(Box::new(subject)), ..Self::new(404, "NotFound", message) }
    }

    /// 409: something that the request needs was changed meanwhile.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    /// 422: fields of the object are invalid.
    pub fn invalid(request: &AdmissionRequest, flaws: &[Cause]) -> Self {
        let texts: Vec<_> = flaws.iter().map(|flaw| format!("{}: {}", flaw.field, flaw.message)).collect();
        let subject = Subject {
            group: request.kind.group.clone(),
            kind: request.kind.kind.clone(),
            name: request.name.clone(),
        };
        let message = format!("{} {} is invalid: {}", request.kind, Quoted(&request.name), aggregate(&texts));
        Self {
            subject: Some(Box::new(subject)),
            causes: flaws.to_vec(),
            ..Self::new(422, "Invalid", message)
        }
    }

    /// 500: the server could not decide.
    pub fn internal(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let cause = Cause { message: message.clone(), ..Cause::default() };
        let causes = vec![cause];
        Self { causes, ..Self::new(500, "InternalError", format!("Internal error occurred: {message}")) }
    }

    /// 504: the request's time is over.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into()))
    }

    /// The same with an annotation for the audit event.
    #[must_use]
    pub fn annotated(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The same with what came along with the request until it was refused.
    #[must_use]
    pub(crate) fn with_notes(mut self, notes: Notes) -> Self {
        self.annotations.extend(notes.annotations);
        Arc::make_mut(&mut self.warnings).extend(notes.warnings);
        self
    }

    /// The same with one more cause.
    #[must_use]
    pub fn because(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let (reason, field) = (reason.to_owned(), field.to_owned());
        self.causes.push(Cause { reason, message: message.into(), field });
        self
    }

    /// Says what is forbidden, as the API server does, unless the denial says what it speaks of already.
    pub(crate) fn about(self, request: &AdmissionRequest) -> Self {
        let bare = self.code == 403 && self.subject.is_none();
        if bare { self.naming(request, request.display_name()) } else { self }
    }

    /// Says that the object of a name is forbidden; without a name only the resource is named.
    pub(crate) fn naming(mut self, request: &AdmissionRequest, name: &str) -> Self {
        let named = if name.is_empty() { String::new() } else { format!(" {}", Quoted(name)) };
        self.message = format!("{}{named} is forbidden: {}", request.resource, self.message);
        self.subject = Some(Box::new(Subject {
            group: request.resource.group.clone(),
            kind: request.resource.resource.clone(),
            name: name.to_owned(),
        }));
        self
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<&str> for Denial {
    fn from(message: &str) -> Self {
        Self::forbidden(message)
    }
}

impl From<String> for Denial {
    fn from(message: String) -> Self {
        Self::forbidden(message)
    }
}

/// Several messages as one, the way the API server writes them: `[a, b]`, each of them once; a single one stands bare.
pub(crate) fn aggregate(messages: &[String]) -> String {
    let mut once: Vec<&str> = Vec::with_capacity(messages.len());
    for message in messages {
        if !once.contains(&message.as_str()) {
            once.push(message);
        }
    }
    match once[..] {
        [single] => single.to_owned(),
        _ => format!("[{}]", once.join(", ")),
    }
}
