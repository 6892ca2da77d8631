//! `/v1/keys`: under which key each stored value lies, and writing what lies under an old one anew.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::IntoResponse,
};
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc, watch};

use crate::{
    errors::ApiError,
    gateway::{
        encryption::{EncryptedStore, Inventory, Rotation, RotationState, rotation},
        store::StoreError,
    },
};

/// Values that a rotation writes in a second unless it is told otherwise: a tenth of what the embedded store takes.
const PER_SECOND: u32 = 200;

/// The most: none of the stores takes more.
const MAX_PER_SECOND: u32 = 100_000;

/// The keys of what the gateway stores. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Keys {
    store: EncryptedStore,
    state: Arc<watch::Sender<RotationState>>,
    asking: mpsc::Sender<Rotation>,
    asked: Arc<Mutex<mpsc::Receiver<Rotation>>>,
}

impl Keys {
    /// Of what is in a store.
    pub fn new(store: EncryptedStore) -> Self {
        // One at a time, and the state says whether one is under way.
        let (asking, asked) = mpsc::channel(1);
        let state = Arc::new(watch::Sender::new(RotationState::Idle));
        Self { store, state, asking, asked: Arc::new(Mutex::new(asked)) }
    }

    /// Waits for a rotation that is asked for over HTTP, does it, and tells how it ended. For one task.
    pub async fn rotate_next(&self) -> RotationState {
        let asked = self.asked.lock().await.recv().await;
        if let Some(asked) = asked {
            rotation(&self.store, &asked, &self.state).await;
        }
        self.state()
    }

    fn state(&self) -> RotationState {
        self.state.borrow().clone()
    }
}

/// What may be said of a rotation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    resource: Option<String>,
    per_second: Option<u32>,
}

pub(crate) async fn status(State(keys): State<Keys>) -> Result<Json<Inventory>, ApiError> {
    Ok(Json(keys.store.inventory().await?))
}

pub(crate) async fn progress(State(keys): State<Keys>) -> Result<Json<RotationState>, ApiError> {
    let mut state = keys.state();
    if let RotationState::Done(figures) = &mut state {
        for proof in &mut figures.proofs {
            proof.look_at_history(&keys.store).await?;
        }
    }
    Ok(Json(state))
}

pub(crate) async fn rotate(
    State(keys): State<Keys>,
    Query(asked): Query<Asked>,
) -> Result<impl IntoResponse, ApiError> {
    let per_second = asked.per_second.unwrap_or(PER_SECOND);
    if !(1..=MAX_PER_SECOND).contains(&per_second) {
        return Err(ApiError::bad_request(
            "invalid_parameter",
            format!("per_second is {per_second}, and must be from 1 to {MAX_PER_SECOND}"),
        ));
    }
    let begins = keys.state.send_if_modified(|state| {
        let is_free = !matches!(state, RotationState::Running(_));
        if is_free {
            *state = RotationState::Running(Default::default());
        }
        is_free
    });
    if !begins {
        return Err(ApiError::new(StatusCode::CONFLICT, "rotating", "a rotation is under way already"));
    }
    // There is room: the one before has been taken and has ended.
    let rotation = Rotation { resource: asked.resource, per_second };
    if keys.asking.try_send(rotation).is_err() {
        return Err(ApiError::new(StatusCode::CONFLICT, "rotating", "a rotation is under way already"));
    }
    Ok((StatusCode::ACCEPTED, Json(keys.state())))
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = crate::errors::chain(&error), "the cluster store cannot be read");
        Self::unavailable("store_unavailable", crate::errors::chain(&error))
    }
}
