//! What each verb does with a request, once it may be done.

mod binding;
mod change;
mod eviction;
mod nodes;
mod patch;
mod review;
mod scale;
mod token;
mod watch;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
};
use serde_json::Value;

use self::change::settle;
pub(super) use self::watch::Begun;
use super::{
    admission::{Admitted, Gate, Hearing},
    answer::{Answer, Content},
    audit::Trail,
    body::{self, Expected, FieldValidation, Received},
    door::Door,
    escalation::Guard,
    negotiate::Accepted,
    object::Object,
    registry::{self, DeleteOptions, Deleted, Edit, ListOptions, Outcome, Registry, Target},
    request::{RequestInfo, parameter},
    resources::Resource,
    schema::{TypeId, schema},
    selectors::Selectors,
    status::{Details, Status},
    validation,
};

/// One request about a resource that is served.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// The objects.
    pub registry: &'c Registry,
    /// What is asked.
    pub info: &'c RequestInfo,
    /// Of what.
    pub resource: &'static Resource,
    /// The query of its URL.
    pub query: Option<&'c str>,
    /// Its headers.
    pub headers: &'c HeaderMap,
    /// What its answer may be.
    pub accepted: Accepted,
    /// Who is known.
    pub door: &'c Door,
    /// Who asks, and what they have.
    pub guard: Guard<'c>,
    /// What decides over changes.
    pub gate: &'c Gate,
}

/// How many values that cannot be read one list names; the last warning tells of all.
const UNREADABLE: usize = 20;

/// Objects that a bulk delete reads at once.
const BULK: usize = 500;

impl<'c> Call<'c> {
    /// Does it.
    ///
    /// # Errors
    /// What the client is told instead.
    pub async fn run(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        match trail.opening() {
            Some(opening) => opening.around(self.verb(body, trail)).await,
            None => self.verb(body, trail).await,
        }
    }

    async fn verb(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        if self.is_review() {
            return self.review(body, trail).await;
        }
        match (&*self.info.verb, self.info.subresource.as_str()) {
            ("create", "token") => self.issue_token(body, trail).await,
            (_, subresource) if nodes::OF_NODES.contains(&subresource) => self.without_nodes().await,
            ("get", "scale") => self.scale().await,
            ("update" | "patch", "scale") => self.set_scale(body, trail).await,
            ("create", "eviction") => self.evict(body, trail).await,
            ("create", "binding") => self.bind(body, trail).await,
            ("create", "") if self.resource.plural == "bindings" => self.bind(body, trail).await,
            ("get", "" | "status" | "approval" | "ephemeralcontainers" | "resize") => self.get().await,
            ("list", "") => self.list().await,
            ("create", "") => self.create(body, trail).await,
            ("update", "" | "status" | "finalize" | "approval" | "ephemeralcontainers" | "resize") => {
                self.update(body, trail).await
            }
            ("patch", "" | "status" | "approval" | "ephemeralcontainers" | "resize") => {
                self.patch(body, trail).await
            }
            ("delete", "") => self.delete(body, trail).await,
            ("deletecollection", "") => self.delete_all(body, trail).await,
            (verb, subresource) => Err(Status::not_implemented(verb, self.resource.plural, subresource)),
        }
    }

    fn target(&self) -> Target<'c> {
        // A Namespace is asked for in its own namespace and lives in none.
        let namespace = if self.resource.namespaced { self.info.namespace.as_str() } else { "" };
        Target { resource: self.resource, namespace, name: &self.info.name }
    }

    /// An edit that gives nothing away which its sender does not have.
    fn ty(&self) -> Result<TypeId, Status> {
        self.resource.ty().ok_or_else(Status::no_such_resource)
    }

    fn answer(&self, code: StatusCode, content: Content, warnings: Vec<String>) -> Answer {
        let ty = match &content {
            Content::Page(_) => {
                schema().kind(self.resource.group, self.resource.version, &self.resource.list_kind())
            }
            Content::NoText => None,
            Content::Status(_) => schema().kind("", "v1", "Status"),
            Content::Object(_) | Content::Stored(_) => self.resource.ty(),
        };
        Answer { code, content, ty, resource: self.resource, warnings }
    }

    /// Reads `dryRun`: `All` or nothing.
    fn is_dry_run(&self, more: &[String]) -> Result<bool, Status> {
        let asked = parameter(self.query, "dryRun");
        let words = asked.iter().map(AsRef::as_ref).chain(more.iter().map(String::as_str));
        let mut is_dry_run = false;
        for word in words.filter(|word| !word.is_empty()) {
            if word != "All" {
                return Err(Status::unprocessable(format!(
                    " \"\" is invalid: dryRun: Unsupported value: [{word:?}]: supported values: \"All\""
                )));
            }
            is_dry_run = true;
        }
        Ok(is_dry_run)
    }

    async fn get(&self) -> Result<Answer, Status> {
        let raw = self.registry.raw(&self.target()).await?;
        Ok(self.answer(StatusCode::OK, Content::Stored(raw), Vec::new()))
    }

    async fn list(&self) -> Result<Answer, Status> {
        let selectors = self.selectors()?;
        let options = ListOptions::from_query(self.query)?;
        let page = self.registry.list(self.resource, self.target().namespace, &selectors, &options).await?;
        let warnings = unreadable(&page);
        Ok(self.answer(StatusCode::OK, Content::Page(page), warnings))
    }

    fn selectors(&self) -> Result<Selectors, Status> {
        Selectors::from_query(self.query, self.resource.group, self.resource.plural)
    }

    /// The object in the body.
    async fn receive(&self, body: Body, trail: &mut Trail) -> Result<Received, Status> {
        let validation = FieldValidation::from_query(self.query)?;
        let bytes = body::read(body).await?;
        let api_version = self.resource.api_version();
        let expected = Expected { ty: self.ty()?, api_version: &api_version, kind: self.resource.kind };
        let received = expected.read(&bytes, self.headers, validation)?;
        trail.request_object(&received.object);
        Ok(received)
    }

    async fn create(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let Received { mut object, mut warnings } = self.receive(body, trail).await?;
        let target = self.target();
        self.registry.place(&target, &mut object)?;
        let mut hearing = self.hearing(is_dry_run);
        let created = self.admit(&mut hearing, object, is_dry_run).await;
        let created = tell(hearing, trail, &mut warnings, created).await?;
        Ok(self.answer(StatusCode::CREATED, Content::Object(created), warnings))
    }

    /// Stores a new object where admission, what its sender has and the rules of its kind let it. What admission has
    /// changed is looked at before admission judges it.
    async fn admit(
        &self,
        hearing: &mut Hearing<'_>,
        object: Object,
        is_dry_run: bool,
    ) -> Result<Object, Status> {
        let target = self.target();
        let settle = |object: &mut Object| {
            self.guard.check(&target, object, None)?;
            self.registry.prepare(&target, object)?;
            validation::created(self.resource, object)
        };
        let object = hearing.create(object, settle).await?;
        self.registry.create(&target, object, is_dry_run).await
    }

    /// The request's way through admission.
    fn hearing(&self, is_dry_run: bool) -> Hearing<'c> {
        let Guard { user, .. } = self.guard;
        Hearing::new(self.gate, self.info, self.target(), user, is_dry_run)
    }

    /// Asks admission about what is created and not stored as it is: a question, a token, the end of a Pod.
    async fn hear(
        &self,
        object: Object,
        trail: &mut Trail,
        is_dry_run: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Status> {
        let mut hearing = self.hearing(is_dry_run);
        let heard = hearing.create(object, |_| Ok(())).await;
        tell(hearing, trail, warnings, heard).await
    }

    /// Changes the object of the URL, through admission and under guard.
    async fn change(
        &self,
        edit: &mut dyn Edit,
        trail: &mut Trail,
        is_dry_run: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Status> {
        let target = self.target();
        let mut hearing = self.hearing(is_dry_run);
        let settle = |new: &mut Object, old: &Object| {
            self.guard.check(&target, new, Some(old))?;
            settle(&target, &self.info.subresource, new, old)
        };
        let mut admitted = Admitted { edit, hearing: &mut hearing, settle };
        let changed = self.registry.update(&target, is_dry_run, &mut admitted).await;
        tell(hearing, trail, warnings, changed).await.map(Outcome::into_object)
    }

    async fn delete_options(&self, body: Body, trail: &mut Trail) -> Result<DeleteOptions, Status> {
        let bytes = body::read(body).await?;
        let mut options = DeleteOptions::default();
        if !bytes.is_empty() {
            let ty = schema().kind("", "v1", "DeleteOptions").ok_or_else(Status::no_such_resource)?;
            let expected = Expected { ty, api_version: "v1", kind: "DeleteOptions" };
            let Received { object, .. } = expected.read(&bytes, self.headers, FieldValidation::Ignore)?;
            let value = object.into_value();
            trail.request_body(&serde_json::to_vec(&value).unwrap_or_default());
            options = serde_json::from_value(value).map_err(|e| Status::bad_request(e.to_string()))?;
        } else {
            options.grace_period_seconds =
                parameter(self.query, "gracePeriodSeconds").and_then(|seconds| seconds.parse().ok());
            options.propagation_policy = parameter(self.query, "propagationPolicy")
                .and_then(|word| serde_json::from_value(Value::from(&*word)).ok());
        }
        options.validate()?;
        Ok(options)
    }

    async fn delete(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let options = self.delete_options(body, trail).await?;
        let is_dry_run = self.is_dry_run(&options.dry_run)?;
        let mut warnings = Vec::new();
        let mut seen = None;
        if !options.ignore_read_error {
            let (old, _) = seen.insert(self.registry.seen(&self.target()).await?);
            let mut hearing = self.hearing(is_dry_run);
            let admitted = hearing.delete(old).await;
            tell(hearing, trail, &mut warnings, admitted).await?;
        }
        let deleted = self.registry.delete(&self.target(), seen, &options, is_dry_run).await?;
        let (object, is_gone) = match deleted {
            Deleted::Gone(object) => (object, true),
            Deleted::Later(object) => (object, false),
        };
        if is_gone && !self.shows_what_it_deletes() {
            let details = Details {
                name: object.name().to_owned(),
                group: self.resource.group.to_owned(),
                kind: self.resource.plural.to_owned(),
                uid: object.uid().to_owned(),
                ..Details::default()
            };
            let status = Status::success(details);
            return Ok(self.answer(StatusCode::OK, Content::Status(status), warnings));
        }
        Ok(self.answer(StatusCode::OK, Content::Object(object), warnings))
    }

    /// Most kinds are answered with a Status when they are gone; these with their last state.
    fn shows_what_it_deletes(&self) -> bool {
        self.resource.group.is_empty()
            && matches!(
                self.resource.plural,
                "pods"
                    | "services"
                    | "serviceaccounts"
                    | "persistentvolumes"
                    | "persistentvolumeclaims"
                    | "podtemplates"
                    | "resourcequotas"
            )
            || self.resource.group == "storage.k8s.io"
    }

    async fn delete_all(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let options = self.delete_options(body, trail).await?;
        let is_dry_run = self.is_dry_run(&options.dry_run)?;
        let selectors = self.selectors()?;
        let page = self
            .registry
            .list(self.resource, self.target().namespace, &selectors, &ListOptions::all(BULK))
            .await?;
        let mut whole = page.clone();
        let (mut page, mut warnings) = (page, Vec::new());
        loop {
            for raw in &page.items {
                let read = registry::version::read(self.resource, &raw.value, raw.revision.0);
                let object = read.map_err(Status::internal)?;
                let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
                let target = Target { resource: self.resource, namespace: &namespace, name: &name };
                let mut hearing = Hearing::new(self.gate, self.info, target, self.guard.user, is_dry_run);
                let admitted = hearing.delete(&object).await;
                tell(hearing, trail, &mut warnings, admitted).await?;
                let seen = Some((object, raw.revision));
                match self.registry.delete(&target, seen, &options, is_dry_run).await {
                    Ok(_) => {}
                    // Somebody else was faster.
                    Err(status) if status.code == 404 => {}
                    Err(status) => return Err(status),
                }
            }
            let Some(token) = page.continues.take() else { break };
            let next = ListOptions::after(&token, BULK)?;
            page = self.registry.list(self.resource, self.target().namespace, &selectors, &next).await?;
            whole.items.extend(page.items.iter().cloned());
        }
        (whole.continues, whole.remaining) = (None, None);
        Ok(self.answer(StatusCode::OK, Content::Page(whole), warnings))
    }
}

/// Passes on what admission told, whatever it decided, and tells it what became of the object.
async fn tell<T>(
    mut hearing: Hearing<'_>,
    trail: &mut Trail,
    warnings: &mut Vec<String>,
    outcome: Result<T, Status>,
) -> Result<T, Status> {
    hearing.close(&outcome).await;
    trail.admitted(std::mem::take(&mut hearing.annotations));
    trail.decided(&hearing.decisions);
    for warning in std::mem::take(&mut hearing.warnings) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    // Who is refused is warned as well.
    outcome.map_err(|status| status.warning(warnings))
}

/// What a page lacks, because it cannot be decrypted.
fn unreadable(page: &registry::Page) -> Vec<String> {
    let mut warnings: Vec<_> = page.unreadable.iter().take(UNREADABLE).map(ToString::to_string).collect();
    if page.unreadable.len() > UNREADABLE {
        warnings.push(format!("{} values in all cannot be decrypted", page.unreadable.len()));
    }
    warnings
}
