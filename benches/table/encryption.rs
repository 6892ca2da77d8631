//! Providers of encryption at rest beside the crates that they stand on, and beside what OpenSSL says of the cipher.

use std::{
    hint::black_box,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use aes::{Aes256, cipher::KeyIvInit};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce};
use anyhow::{Context, anyhow};
use cbc::cipher::{BlockModeEncrypt, block_padding::Pkcs7};
use crypto::{EncryptionConfig, EncryptionTransformer, KeyBytes, KeyFile};
use crypto_secretbox::{AeadInPlace, XSalsa20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::{
    Args,
    figures::{Figure, Goal, Line, median},
};

/// Bytes of a value: a usual object, and a large one.
const SIZES: [usize; 2] = [1024, 16 * 1024];
/// Values between two looks at the clock.
const AT_ONCE: u32 = 64;
/// Where the values lie.
const AT: &str = "/registry/secrets/default/a";
/// What a provider has to keep of its crate's speed.
const GOAL: f64 = 0.8;

/// A provider, what it stands on, and what OpenSSL calls that.
struct Provider {
    name: &'static str,
    bare: fn(&[u8; 32], &[u8]) -> anyhow::Result<Vec<u8>>,
    openssl: Option<&'static str>,
}

const PROVIDERS: [Provider; 4] = [
    Provider { name: "aesgcm", bare: aes_gcm, openssl: Some("aes-256-gcm") },
    Provider { name: "aescbc", bare: aes_cbc, openssl: Some("aes-256-cbc") },
    Provider { name: "secretbox", bare: secretbox, openssl: None },
    Provider { name: "kms", bare: derived, openssl: Some("aes-256-gcm") },
];

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let key = KeyBytes::random(32)?;
    let bytes: [u8; 32] = key.expose().try_into()?;
    let time = args.full_or_quick(Duration::from_secs(2), Duration::from_millis(300));
    let mut lines = Vec::new();
    for provider in &PROVIDERS {
        let transformer = transformer(provider.name, &key).await?;
        for size in SIZES {
            let value = vec![b'x'; size];
            let ours = || Ok(transformer.transform_to_storage("secrets", AT, &value)?);
            let (mut rates, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..args.rounds() {
                rates.push(rate(time, ours)?);
                bare.push(rate(time, || (provider.bare)(&bytes, &value))?);
            }
            let what = format!("encrypting {} KiB, {}", size / 1024, provider.name);
            let figure = Figure::PerSecond(median(rates));
            let line = Line::new(what, figure).beside("its crate", Figure::PerSecond(median(bare)));
            lines.push(line.goal(Goal::RatioAtLeast(GOAL)));
            let openssl = provider.openssl.map(|cipher| openssl(cipher, size)).transpose()?.flatten();
            if let Some(rate) = openssl {
                lines.push(Line::new("… beside OpenSSL", figure).beside("openssl speed", rate));
            }
        }
    }
    Ok(lines)
}

/// What a configuration with this provider makes; of the KMS with a key file behind it.
async fn transformer(provider: &str, key: &KeyBytes) -> anyhow::Result<EncryptionTransformer> {
    let keys = format!("[{{name: a, secret: {}}}]", *key.to_base64());
    let of = match provider {
        "kms" => "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a'}}".to_owned(),
        name => format!("{{{name}: {{keys: {keys}}}}}"),
    };
    let text = format!(
        "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [{of}]}}]}}"
    );
    let file = format!("{{apiVersion: muniment.io/v1, kind: KeyFile, keys: {keys}}}");
    let file = Arc::new(KeyFile::from_bytes(file.as_bytes())?);
    let config = EncryptionConfig::from_bytes(text.as_bytes(), false)?;
    let transformer = EncryptionTransformer::with_kms(config, |_| file.clone())?;
    for kms in transformer.kms() {
        kms.probe().await?;
    }
    Ok(transformer)
}

/// Values in a second, one after the other.
fn rate(time: Duration, mut seal: impl FnMut() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<f64> {
    let (began, mut values) = (Instant::now(), 0_u64);
    while began.elapsed() < time {
        for _ in 0..AT_ONCE {
            black_box(seal()?);
        }
        values += u64::from(AT_ONCE);
    }
    Ok(values as f64 / began.elapsed().as_secs_f64())
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// A cipher that is made once for all values, as a provider makes it.
macro_rules! kept {
    ($cipher:ty, $key:expr, $with:expr) => {{
        thread_local! {
            static KEPT: std::cell::OnceCell<$cipher> = const { std::cell::OnceCell::new() };
        }
        KEPT.with(|kept| $with(kept.get_or_init(|| <$cipher>::new($key.into()))))
    }};
}

fn aes_gcm(key: &[u8; 32], value: &[u8]) -> anyhow::Result<Vec<u8>> {
    kept!(Aes256Gcm, key, |cipher: &Aes256Gcm| gcm(cipher, value))
}

fn gcm(cipher: &Aes256Gcm, value: &[u8]) -> anyhow::Result<Vec<u8>> {
    let nonce = random::<12>()?;
    let mut out = Vec::with_capacity(value.len() + 28);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(value);
    let sealed = cipher.encrypt_inout_detached(&Nonce::from(nonce), AT.as_bytes(), (&mut out[12..]).into());
    out.extend_from_slice(&sealed.map_err(|_| anyhow!("the value is too long"))?);
    Ok(out)
}

fn aes_cbc(key: &[u8; 32], value: &[u8]) -> anyhow::Result<Vec<u8>> {
    let iv = random::<16>()?;
    let mut out = vec![0; 16 + (value.len() / 16 + 1) * 16];
    out[..16].copy_from_slice(&iv);
    out[16..16 + value.len()].copy_from_slice(value);
    let mode = cbc::Encryptor::<Aes256>::new(key.into(), &iv.into());
    let padded = mode.encrypt_padded::<Pkcs7>(&mut out[16..], value.len());
    padded.map_err(|_| anyhow!("the value is too long"))?;
    Ok(out)
}

fn secretbox(key: &[u8; 32], value: &[u8]) -> anyhow::Result<Vec<u8>> {
    let nonce = random::<24>()?;
    let cipher = <XSalsa20Poly1305 as crypto_secretbox::KeyInit>::new(key.into());
    let mut out = Vec::with_capacity(value.len() + 40);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(value);
    let tag = cipher.encrypt_in_place_detached(&nonce.into(), &[], &mut out[40..]);
    let tag = tag.map_err(|_| anyhow!("the value is too long"))?;
    out[24..40].copy_from_slice(&tag);
    Ok(out)
}

/// AES-GCM under a key that HKDF makes for the value.
fn derived(seed: &[u8; 32], value: &[u8]) -> anyhow::Result<Vec<u8>> {
    let info = random::<32>()?;
    let mut key = [0; 32];
    let hkdf = Hkdf::<Sha256>::from_prk(seed).map_err(|_| anyhow!("the seed is too short"))?;
    hkdf.expand(&info, &mut key).map_err(|_| anyhow!("the key is too long"))?;
    let sealed = gcm(&Aes256Gcm::new(&key.into()), value)?;
    Ok([&info[..], &sealed].concat())
}

/// Values in a second by `openssl speed`, which has no nonces to make and nothing to copy; nothing where it is not.
fn openssl(cipher: &str, size: usize) -> anyhow::Result<Option<Figure>> {
    let size_arg = size.to_string();
    let arguments = ["speed", "-mr", "-elapsed", "-seconds", "1", "-bytes", &size_arg, "-evp", cipher];
    let Ok(output) = Command::new("openssl").args(arguments).output() else { return Ok(None) };
    let text = String::from_utf8_lossy(&output.stdout);
    // +F:22:AES-256-GCM:5012345678.90
    let line = text.lines().find(|line| line.starts_with("+F:")).context("openssl speed gives no figure")?;
    let bytes: f64 = line.rsplit(':').next().unwrap_or_default().parse()?;
    Ok(Some(Figure::PerSecond(bytes / size as f64)))
}
