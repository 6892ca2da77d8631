//! The controller of ValidatingWebhookConfigurations: all webhooks are asked at once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;

use super::{
    client::WebhookClient,
    hearing::{Called, Court},
    mutating::LONGEST,
};
use crate::{
    cluster::ClusterState,
    controller::{AdmissionController, Phases},
    denial::Denial,
    matching::{configuration, is_exempt},
    request::{AdmissionRequest, Operation},
    response::{AdmissionResponse, Notes},
};

/// Asks every webhook that is for a request.
pub(crate) struct ValidatingAdmissionWebhook {
    state: Arc<dyn ClusterState>,
    client: Option<Arc<dyn WebhookClient>>,
}

impl ValidatingAdmissionWebhook {
    pub(crate) fn new(state: Arc<dyn ClusterState>, client: Option<Arc<dyn WebhookClient>>) -> Self {
        Self { state, client }
    }

    async fn ask(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let configuration = configuration(&*self.state).await?;
        let court = Court { state: &*self.state, client: self.client.as_deref() };
        let mut meant = Vec::new();
        for webhook in &configuration.validating_webhooks {
            if let Some(form) = court.form(webhook, request).await? {
                meant.push((webhook, form));
            }
        }
        let calls = meant.iter().map(|(webhook, form)| court.call(webhook, request, form, false));
        let (mut notes, mut first) = (Notes::default(), None);
        for (at, (called, (webhook, _))) in join_all(calls).await.into_iter().zip(&meant).enumerate() {
            match called {
                Ok(Called::Said(said)) => {
                    notes.warnings.extend(said.warnings);
                    notes.annotations.extend(said.annotations);
                    first = first.or(said.denial);
                }
                Ok(Called::Open(why)) => {
                    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
                    notes.open(webhook, &key, &why);
                }
                Err(denial) => first = first.or(Some(denial)),
            }
        }
        match first {
            None => Ok(AdmissionResponse::AllowWithNotes(notes)),
            Some(denial) => Err(denial.with_notes(notes)),
        }
    }
}

#[async_trait]
impl AdmissionController for ValidatingAdmissionWebhook {
    fn name(&self) -> &str {
        "ValidatingAdmissionWebhook"
    }

    fn supports_operation(&self, _: &Operation) -> bool {
        true
    }

    fn phases(&self) -> Phases {
        Phases::Validating
    }

    fn deadline(&self) -> Duration {
        LONGEST
    }

    async fn admit(&self, _: &AdmissionRequest) -> AdmissionResponse {
        AdmissionResponse::Allow
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        if is_exempt(request) {
            return AdmissionResponse::Allow;
        }
        self.ask(request).await.into()
    }
}
