//! `serviceaccounts/token`: a token for a service account, perhaps bound to an object and gone with it.

use axum::{body::Body, http::StatusCode};
use serde::Deserialize;

use super::Call;
use crate::gateway::{
    answer::{Answer, Content},
    audit::Trail,
    authn::account::{Bound, Issued, Reference, TokenSpec},
    authz::listed,
    body::{self, Expected, FieldValidation, Received},
    object::Object,
    registry::Target,
    resources::resources,
    status::{Qualified, Status},
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "listed")]
    audiences: Vec<String>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<BoundObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BoundObject {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

impl Call<'_> {
    pub(super) async fn issue_token(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let subresource = self.resource.subresource("token").ok_or_else(Status::no_such_resource)?;
        let ty = subresource.ty().ok_or_else(Status::no_such_resource)?;
        let validation = FieldValidation::from_query(self.query)?;
        let bytes = body::read(body).await?;
        let expected = Expected { ty, api_version: "authentication.k8s.io/v1", kind: subresource.kind };
        let Received { object, mut warnings } = expected.read(&bytes, self.headers, validation)?;
        trail.request_object(&object);
        let mut object = self.hear(object, trail, is_dry_run, &mut warnings).await?;
        let account = self.registry.get(&self.target()).await?;
        if account.is_deleting() {
            let why = "the service account is being deleted";
            return Err(Status::forbidden(self.target().what(), account.name(), why));
        }
        let spec = object.at("/spec").map(Spec::deserialize).transpose();
        let spec = spec.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
        let bound = match &spec.bound_object_ref {
            Some(reference) => Some(self.bound(reference).await?),
            None => None,
        };
        let wanted =
            TokenSpec { audiences: spec.audiences, expiration_seconds: spec.expiration_seconds, bound };
        let issued = self.door.accounts.issue(&self.info.namespace, reference(&account), wanted)?;
        if !is_dry_run {
            trail.annotate("authentication.kubernetes.io/issued-credential-id", issued.credential_id.clone());
        }
        describe(&mut object, &account, &issued, is_dry_run);
        let answer = self.answer(StatusCode::CREATED, Content::Object(object), warnings);
        Ok(Answer { ty: Some(ty), ..answer })
    }

    /// What a token shall go with, which must be there.
    async fn bound(&self, wanted: &BoundObject) -> Result<Bound, Status> {
        let (plural, namespace) = match (wanted.api_version.as_str(), wanted.kind.as_str()) {
            ("v1", "Pod") => ("pods", self.info.namespace.as_str()),
            ("v1", "Secret") => ("secrets", self.info.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            (version, kind) => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {version}, Kind={kind}"
                )));
            }
        };
        let resource = resources().get("", "v1", plural).ok_or_else(Status::no_such_resource)?;
        let found = self.registry.get(&Target { resource, namespace, name: &wanted.name }).await?;
        if !wanted.uid.is_empty() && wanted.uid != found.uid() {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have \
                 been deleted and then recreated",
                wanted.uid
            );
            return Err(Status::conflict(Qualified { group: "", name: plural }, &wanted.name, &why));
        }
        match plural {
            "secrets" => Ok(Bound::Secret(reference(&found))),
            "nodes" => Ok(Bound::Node(reference(&found))),
            _ => self.bound_to_pod(&found).await,
        }
    }

    async fn bound_to_pod(&self, pod: &Object) -> Result<Bound, Status> {
        if pod.text_at("/spec/serviceAccountName") != self.info.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                self.info.name
            )));
        }
        let name = pod.text_at("/spec/nodeName");
        if name.is_empty() {
            return Ok(Bound::Pod(reference(pod), None));
        }
        let resource = resources().get("", "v1", "nodes").ok_or_else(Status::no_such_resource)?;
        let uid = match self.registry.get(&Target { resource, namespace: "", name }).await {
            Ok(node) => node.uid().to_owned(),
            Err(status) if status.code == 404 => String::new(),
            Err(status) => return Err(status),
        };
        Ok(Bound::Pod(reference(pod), Some(Reference { name: name.to_owned(), uid })))
    }
}

fn reference(object: &Object) -> Reference {
    Reference { name: object.name().to_owned(), uid: object.uid().to_owned() }
}

/// Puts what was given into the object of the answer. A dry run shows no token.
fn describe(object: &mut Object, account: &Object, issued: &Issued, is_dry_run: bool) {
    object.set_text("name", account.name());
    object.set_text("namespace", account.namespace());
    let spec = object.members_mut().entry("spec").or_insert_with(|| serde_json::json!({}));
    spec["audiences"] = serde_json::json!(issued.audiences);
    spec["expirationSeconds"] = issued.expiration_seconds.into();
    let whole = issued.expires.to_string();
    let whole = whole.split('.').next().unwrap_or_default();
    let token = if is_dry_run { "" } else { issued.token.as_str() };
    let status = serde_json::json!({ "token": token, "expirationTimestamp": format!("{whole}Z") });
    object.members_mut().insert("status".to_owned(), status);
}
