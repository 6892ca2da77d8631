//! Where the gateway's identities come from, as the settings say: files that are followed, keys, an issuer.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use api::gateway::{
    authn::{
        Sources,
        account::ServiceAccounts,
        certificate::Authorities,
        followed::Followed,
        jwt::Keys,
        oidc::{Discovery, KeySource, Oidc, OidcOptions},
        signing_key::SigningKey,
        token_file::TokenFile,
    },
    registry::Registry,
};
use ingest::time::Clock;

use crate::{
    settings::AccessSettings,
    supervise::{Phase, Supervisor},
};

/// What the settings name, read whole.
#[derive(Debug)]
pub(crate) struct Identities {
    certificates: Option<Followed<Authorities>>,
    token_file: Option<Followed<TokenFile>>,
    signing_key: Option<SigningKey>,
    further_keys: Vec<Followed<Keys>>,
    issuer_keys: Option<Followed<Keys>>,
    oidc: Option<Oidc>,
    issuer: String,
    audiences: Vec<String>,
    clock: Clock,
}

impl Identities {
    /// Reads it.
    ///
    /// # Errors
    /// The first file that cannot be read or used, and settings that go together with nothing.
    pub(crate) fn read(settings: &AccessSettings, clock: &Clock) -> Result<Self> {
        let certificates = settings.client_ca_file.as_ref();
        let token_file = settings.token_auth_file.as_ref();
        let further = settings.service_account_key_file.iter();
        let issuer_keys = settings.oidc_jwks_file.as_ref();
        let issuer_keys = issuer_keys.map(|path| Followed::open(path, Keys::from_jwks)).transpose()?;
        Ok(Self {
            certificates: certificates.map(|path| Followed::open(path, Authorities::parse)).transpose()?,
            token_file: token_file.map(|path| Followed::open(path, TokenFile::parse)).transpose()?,
            signing_key: settings.service_account_signing_key_file.as_deref().map(signing_key).transpose()?,
            further_keys: further
                .map(|path| Followed::open(path, Keys::from_pem))
                .collect::<Result<_, _>>()?,
            oidc: oidc(settings, issuer_keys.clone(), clock)?,
            issuer_keys,
            issuer: settings.service_account_issuer.clone(),
            audiences: settings.api_audiences.clone(),
            clock: clock.clone(),
        })
    }

    /// Follows the files, and knows the service accounts of a cluster too. Their key is made where none was given.
    ///
    /// # Errors
    /// When the key in the data folder cannot be used.
    pub(crate) fn start(
        self,
        registry: &Registry,
        data: &Path,
        supervisor: &mut Supervisor,
    ) -> Result<(Sources, Arc<ServiceAccounts>)> {
        follow(self.certificates.as_ref(), supervisor);
        follow(self.token_file.as_ref(), supervisor);
        self.further_keys.iter().chain(&self.issuer_keys).for_each(|keys| follow(Some(keys), supervisor));
        let key = match self.signing_key {
            Some(key) => key,
            None => SigningKey::own(&data.join("tls/service-account.key"))?,
        };
        let objects = Arc::new(registry.clone());
        let accounts =
            ServiceAccounts::new(self.issuer, self.audiences, key, self.further_keys, objects, self.clock);
        let accounts = Arc::new(accounts);
        let mut sources = Sources {
            certificates: self.certificates,
            token_file: self.token_file,
            signed: vec![accounts.clone()],
        };
        if let Some(oidc) = self.oidc {
            sources.signed.push(Arc::new(oidc));
        }
        Ok((sources, accounts))
    }
}

fn signing_key(path: &Path) -> Result<SigningKey> {
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    SigningKey::parse(&pem).map_err(anyhow::Error::msg).with_context(|| path.display().to_string())
}

fn oidc(settings: &AccessSettings, keys: Option<Followed<Keys>>, clock: &Clock) -> Result<Option<Oidc>> {
    let Some(issuer) = &settings.oidc_issuer_url else { return Ok(None) };
    let options = OidcOptions {
        issuer: issuer.clone(),
        client_id: settings.oidc_client_id.clone().unwrap_or_default(),
        username_claim: settings.oidc_username_claim.clone(),
        username_prefix: settings.oidc_username_prefix.clone(),
        groups_claim: settings.oidc_groups_claim.clone(),
        groups_prefix: settings.oidc_groups_prefix.clone(),
        required_claims: settings.oidc_required_claim.iter().cloned().collect(),
        algorithms: settings.oidc_signing_algs.clone(),
    };
    let keys = match (keys, &settings.oidc_ca_file) {
        (Some(keys), _) => KeySource::File(keys),
        (None, file) => {
            let read =
                |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
            let authorities = file.as_deref().map(read).transpose()?;
            let discovery = Discovery::new(issuer, authorities.as_deref(), clock.clone());
            KeySource::Issuer(discovery.context("--oidc-ca-file cannot be used")?)
        }
    };
    Oidc::new(options, keys, clock.clone()).map(Some).context("the --oidc-… settings cannot be used")
}

fn follow<T: Send + Sync + 'static>(file: Option<&Followed<T>>, supervisor: &mut Supervisor) {
    let Some(file) = file.cloned() else { return };
    let stop = supervisor.stop(Phase::Movers);
    supervisor.spawn(Phase::Movers, "identities", async move {
        file.run(&stop).await;
        Ok(())
    });
}
