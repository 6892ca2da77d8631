//! One webhook's part in one request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use uuid::Uuid;

use super::{
    client::WebhookClient,
    configuration::Webhook,
    review::{Said, read, review},
};
use crate::{
    cel::Activation,
    cluster::ClusterState,
    controller::FailurePolicy,
    denial::Denial,
    matching::{Form, namespace},
    policy::{all_hold, apart, converted, subject},
    quote::Quoted,
    request::AdmissionRequest,
    response::Notes,
};

/// How long the match conditions of a webhook may take.
const CONDITIONS: Duration = Duration::from_secs(1);

/// What every webhook is put to with.
pub(super) struct Court<'c> {
    pub(super) state: &'c dyn ClusterState,
    pub(super) client: Option<&'c dyn WebhookClient>,
}

/// What came of a call.
pub(super) enum Called {
    /// The webhook answered.
    Said(Said),
    /// It did not, and is passed by.
    Open(String),
}

impl Notes {
    /// A webhook gave no answer, and is passed by: the audit finds its name under a key.
    pub(super) fn open(&mut self, webhook: &Webhook, key: &str, why: &str) {
        self.annotations.insert(key.to_owned(), webhook.name.clone());
        self.failed_open.push(format!("webhook {}: {why}", Quoted(&webhook.name)));
    }
}

impl Court<'_> {
    /// The form in which a webhook wants to see the request; none where it does not.
    ///
    /// # Errors
    /// When that cannot be told, and the webhook's failure policy refuses.
    pub(super) async fn form(
        &self,
        webhook: &Arc<Webhook>,
        request: &AdmissionRequest,
    ) -> Result<Option<Form>, Denial> {
        let Some(form) = webhook.constraints.form(request, self.state).await? else { return Ok(None) };
        if webhook.conditions.is_empty() {
            return Ok(Some(form));
        }
        let is_namespaced = !request.namespace.is_empty() && !request.resource.is("", "namespaces");
        let namespace = if is_namespaced { namespace(request, self.state).await? } else { None };
        let subject = subject(request, &form, namespace.as_ref(), self.state);
        let subject = subject.map_err(|error| Denial::internal(error.to_string()))?;
        let asked = webhook.clone();
        let hold = apart(move || {
            let activation = Activation::new(&subject, None, &[], Instant::now() + CONDITIONS);
            all_hold(&asked.conditions, &activation)
        });
        match hold.await.and_then(|hold| hold) {
            Ok(hold) => Ok(hold.then_some(form)),
            Err(_) if webhook.failure_policy == FailurePolicy::Ignore => Ok(None),
            Err(why) => Err(Denial::forbidden(why)),
        }
    }

    /// Calls a webhook.
    ///
    /// # Errors
    /// When it gave no answer that can be taken, and its failure policy refuses; when the webhook may do something
    /// and nothing is to be done.
    pub(super) async fn call(
        &self,
        webhook: &Webhook,
        request: &AdmissionRequest,
        form: &Form,
        may_patch: bool,
    ) -> Result<Called, Denial> {
        let name = Quoted(&webhook.name);
        if request.dry_run && !webhook.may_dry_run {
            return Err(Denial::bad_request(format!("admission webhook {name} does not support dry run")));
        }
        match self.answer(webhook, request, form, may_patch).await {
            Ok(said) => Ok(Called::Said(said)),
            Err(why) if webhook.failure_policy == FailurePolicy::Ignore => Ok(Called::Open(why)),
            Err(why) => Err(Denial::internal(format!("failed calling webhook {name}: {why}"))),
        }
    }

    async fn answer(
        &self,
        webhook: &Webhook,
        request: &AdmissionRequest,
        form: &Form,
        may_patch: bool,
    ) -> Result<Said, String> {
        let failed = |why: &str| format!("failed to call webhook: {why}");
        let target = webhook.target.as_ref().map_err(|why| failed(why))?;
        let client = self.client.ok_or_else(|| failed("webhooks cannot be called here"))?;
        if !webhook.speaks_v1 {
            return Err(failed("webhook does not accept known AdmissionReview versions (v1)"));
        }
        let shown = |object: Option<&Arc<Value>>| {
            converted(object, request, form, self.state).map_err(|error| failed(&error.to_string()))
        };
        let (object, old_object) = (shown(request.object.as_ref())?, shown(request.old_object.as_ref())?);
        let uid = Uuid::new_v4().to_string();
        let body = review(&uid, request, form, object.as_deref(), old_object.as_deref());
        let body = client.call(target, body, webhook.timeout).await.map_err(|error| failed(&error.0))?;
        read(&webhook.name, &uid, &body, may_patch)
            .map_err(|why| format!("received invalid webhook response: {why}"))
    }
}
