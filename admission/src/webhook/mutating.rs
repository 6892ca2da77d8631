//! The controller of MutatingWebhookConfigurations: webhooks are asked one after the other, each of them with what
//! those before it made of the object.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{
    client::WebhookClient,
    configuration::Webhook,
    hearing::{Called, Court},
    review::Said,
};
use crate::{
    cluster::ClusterState,
    controller::{AdmissionController, Phases},
    denial::Denial,
    matching::{Form, configuration, is_exempt},
    patch::{self, PatchOp, PatchOperation},
    quote::Quoted,
    request::{AdmissionRequest, Operation},
    response::{AdmissionResponse, Notes, PATCH_ANNOTATION},
};

/// Webhooks have bounds of their own; all of them together end with the request.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Asks every webhook that is for a request, and takes over what it changes.
pub(crate) struct MutatingAdmissionWebhook {
    state: Arc<dyn ClusterState>,
    client: Option<Arc<dyn WebhookClient>>,
}

impl MutatingAdmissionWebhook {
    pub(crate) fn new(state: Arc<dyn ClusterState>, client: Option<Arc<dyn WebhookClient>>) -> Self {
        Self { state, client }
    }

    async fn ask(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let configuration = configuration(&*self.state).await?;
        let court = Court { state: &*self.state, client: self.client.as_deref() };
        let (mut current, mut notes) = (request.clone(), Notes::default());
        for (index, webhook) in configuration.mutating_webhooks.iter().enumerate() {
            let asked = self.one(&court, webhook, &mut current, &mut notes, index).await;
            if let Err(denial) = asked {
                return Err(denial.with_notes(notes));
            }
        }
        Ok(AdmissionResponse::AllowWithNotes(notes))
    }

    /// Asks one webhook, if it is for the request. A webhook that was not asked in the first round is not asked in the
    /// second, nor one after which nothing was changed.
    async fn one(
        &self,
        court: &Court<'_>,
        webhook: &Arc<Webhook>,
        current: &mut AdmissionRequest,
        notes: &mut Notes,
        index: usize,
    ) -> Result<(), Denial> {
        let round = current.memory.round;
        let place = (webhook.configuration.as_str(), webhook.at);
        if round > 0 {
            let after = current.memory.after(place);
            if !webhook.reinvoked || after.is_none() || after == current.object {
                return Ok(());
            }
        }
        let Some(form) = court.form(webhook, current).await? else { return Ok(()) };
        let call = format!("round_{round}_index_{index}");
        let put = self.put(court, webhook, current, &form, &call, notes).await;
        let mutated = json!({
            "configuration": webhook.configuration, "webhook": webhook.name, "mutated": matches!(put, Ok(true)),
        });
        notes.annotations.insert(format!("mutation.webhook.admission.k8s.io/{call}"), mutated.to_string());
        if let Some(object) = &current.object {
            current.memory.remember(place, object);
        }
        put.map(drop)
    }

    /// Puts the request to one webhook. Whether that changed the object.
    async fn put(
        &self,
        court: &Court<'_>,
        webhook: &Webhook,
        current: &mut AdmissionRequest,
        form: &Form,
        call: &str,
        notes: &mut Notes,
    ) -> Result<bool, Denial> {
        let said = match court.call(webhook, current, form, true).await? {
            Called::Said(said) => said,
            Called::Open(why) => {
                notes.open(webhook, &format!("failed-open.mutation.webhook.admission.k8s.io/{call}"), &why);
                return Ok(false);
            }
        };
        if said.denial.is_none() && !said.patch.is_empty() {
            let patch = json!({
                "configuration": webhook.configuration, "webhook": webhook.name, "patch": said.patch,
                "patchType": "JSONPatch",
            });
            notes.annotations.insert(format!("{PATCH_ANNOTATION}{call}"), patch.to_string());
        }
        let patch = self.take(webhook, current, form, said, notes)?;
        let is_changed = !patch.is_empty();
        notes.patch.extend(patch);
        Ok(is_changed)
    }

    /// Takes a webhook's answer over. What it changes is the outcome, as steps on the request's own object.
    fn take(
        &self,
        webhook: &Webhook,
        current: &mut AdmissionRequest,
        form: &Form,
        said: Said,
        notes: &mut Notes,
    ) -> Result<Vec<PatchOperation>, Denial> {
        notes.warnings.extend(said.warnings);
        notes.annotations.extend(said.annotations);
        if let Some(denial) = said.denial {
            return Err(denial);
        }
        let Some(object) = current.object.as_mut().filter(|_| !said.patch.is_empty()) else {
            return Ok(Vec::new());
        };
        let failed = |why: String| Denial::internal(format!("webhook {}: {why}", Quoted(&webhook.name)));
        let is_own = form.kind == current.kind;
        let mut changed = if is_own {
            Value::clone(object)
        } else {
            self.state.convert(object, &form.kind).map_err(|error| failed(error.to_string()))?
        };
        patch::apply(&mut changed, &said.patch).map_err(|error| failed(crate::patch::described(&error)))?;
        if is_own {
            let is_same = changed == **object;
            *object = Arc::new(changed);
            return Ok(if is_same { Vec::new() } else { said.patch });
        }
        let changed =
            self.state.convert(&changed, &current.kind).map_err(|error| failed(error.to_string()))?;
        *object = Arc::new(changed.clone());
        Ok(vec![PatchOperation {
            op: PatchOp::Replace,
            path: String::new(),
            value: Some(changed),
            from: None,
        }])
    }
}

#[async_trait]
impl AdmissionController for MutatingAdmissionWebhook {
    fn name(&self) -> &str {
        "MutatingAdmissionWebhook"
    }

    /// A deletion has no object that could be changed, but may be refused.
    fn supports_operation(&self, _: &Operation) -> bool {
        true
    }

    fn phases(&self) -> Phases {
        Phases::Mutating
    }

    fn deadline(&self) -> Duration {
        LONGEST
    }

    fn causes_reinvocation(&self) -> bool {
        true
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        if is_exempt(request) {
            return AdmissionResponse::Allow;
        }
        self.ask(request).await.into()
    }
}
