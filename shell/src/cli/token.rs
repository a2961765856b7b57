//! `runcast token`: a token for whoever has the secret anyway.

use super::{ConfigOptions, Exit, Scope, TokenOptions, refuse, say};
use crate::auth::{DEV_KID, Secret, dev_secret_file, read_dev_secret, read_secret, sign};
use crate::config::{KeyFile, Origin, Problem, Problems, Settings};
use clap::ValueEnum;
use jsonwebtoken::Algorithm;
use runcast_core::input::Claims;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints a token on a line of its own.
pub fn token(options: &TokenOptions) -> Exit {
    match make(options) {
        Ok(token) => say(&token),
        Err(problems) => refuse(&problems),
    }
}

fn make(options: &TokenOptions) -> Result<String, Problems> {
    let (config, data) = (options.config.clone(), options.data.clone());
    let settings = ConfigOptions { config, data, ..ConfigOptions::default() }.load()?;
    let (secret, kid) = signer(&settings)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = claims(options, &settings, now);
    Ok(sign(&claims, &secret, kid.as_deref()))
}

/// A token for this user with these scopes, good for an hour.
pub(super) fn of(
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    user: &str,
    scope: &str,
) -> Result<String, Problems> {
    let settings = ConfigOptions { config, data, ..ConfigOptions::default() }.load()?;
    let (secret, kid) = signer(&settings)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = Claims {
        sub: user.to_owned(),
        exp: now + 3_600,
        iat: Some(now),
        iss: settings.core.auth.issuer.clone(),
        aud: settings.core.auth.audience.iter().cloned().collect(),
        scope: Some(scope.to_owned()),
        ..Claims::default()
    };
    Ok(sign(&claims, &secret, kid.as_deref()))
}

/// The first HS256 secret of the configuration, else that of `serve --dev`; with its `kid`.
fn signer(settings: &Settings) -> Result<(Secret, Option<String>), Problem> {
    for key in settings.auth.keys.iter().filter(|key| key.alg == Algorithm::HS256) {
        if let KeyFile::Secret(path) = &key.file {
            return Ok((read_secret(path, &key.origin)?, key.kid.clone()));
        }
    }
    let dev = read_dev_secret(&settings.data)?.map(|secret| (secret, Some(DEV_KID.to_owned())));
    dev.ok_or_else(|| {
        let origin = Origin::File(dev_secret_file(&settings.data), None);
        let reason = "no such file, and no HS256 secret in auth.keys: nothing to sign with";
        Problem::new(origin, reason, "start `runcast serve --dev` once, or give its --data, or a --config")
    })
}

fn claims(options: &TokenOptions, settings: &Settings, now: u64) -> Claims {
    let scope = |scope: &Scope| scope.to_possible_value().map(|word| word.get_name().to_owned());
    let scopes: Vec<String> = options.scope.iter().filter_map(scope).collect();
    Claims {
        sub: options.user.to_string(),
        exp: now.saturating_add(options.ttl.as_millis().div_ceil(1_000)),
        nbf: None,
        iat: Some(now),
        iss: settings.core.auth.issuer.clone(),
        aud: settings.core.auth.audience.iter().cloned().collect(),
        scope: (!scopes.is_empty()).then(|| scopes.join(" ")),
        agents: options.agents.as_ref().map(|agents| agents.iter().map(ToString::to_string).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Keys, dev_secret};
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::path::Path;

    fn options(words: &[&str], data: &Path) -> TokenOptions {
        let start = ["runcast", "token", "--data", data.to_str().unwrap()];
        let cli = Cli::try_parse_from(start.iter().chain(words)).unwrap();
        let Command::Token(options) = cli.command else { panic!("not token") };
        options
    }

    #[test]
    fn a_token_of_the_dev_secret_says_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::from_config(&Settings::default().auth, true).unwrap();
        let keys = keys.with_dev(&dev_secret(dir.path()).unwrap());
        let words = ["--user", "ali ce", "--scope", "user", "--scope", "worker", "--agents", "echo,files"];
        let claims = keys.verify(&make(&options(&words, dir.path())).unwrap()).unwrap();
        assert_eq!((claims.sub.as_str(), claims.scope.as_deref()), ("ali ce", Some("user worker")));
        assert_eq!(claims.agents, Some(vec!["echo".to_owned(), "files".to_owned()]));
        assert_eq!(claims.exp - claims.iat.unwrap(), 3600);
    }

    #[test]
    fn a_configured_secret_signs_for_the_configured_issuer_and_audience() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("runcast.toml");
        std::fs::write(dir.path().join("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let text = "[auth]\nissuer = \"me\"\naudience = \"you\"\n\
                    keys = [{ kid = \"k\", alg = \"HS256\", secret_file = \"secret\" }]\n";
        std::fs::write(&config, text).unwrap();
        let words = ["--user", "alice", "--config", config.to_str().unwrap()];
        let options = options(&words, dir.path());
        let token = make(&options).unwrap();
        let settings = ConfigOptions { config: Some(config), ..ConfigOptions::default() }.load().unwrap();
        let claims = Keys::from_config(&settings.auth, false).unwrap().verify(&token).unwrap();
        assert_eq!((claims.iss.as_deref(), claims.aud), (Some("me"), vec!["you".to_owned()]));
        assert_eq!((claims.scope, claims.agents), (None, None));
    }

    #[test]
    fn a_token_is_good_for_some_time() {
        let start = ["runcast", "token", "--user", "alice", "--ttl"];
        let read = |ttl| Cli::try_parse_from(start.into_iter().chain([ttl]));
        let refused = read("0s").unwrap_err().to_string();
        assert!(
            refused.contains("expected a duration like 30s, and more than none, found \"0s\""),
            "{refused}"
        );
        assert!(read("1ms").is_ok());
    }

    #[test]
    fn without_a_secret_there_is_nothing_to_sign_with() {
        let dir = tempfile::tempdir().unwrap();
        let problems = make(&options(&["--user", "alice"], dir.path())).unwrap_err().to_string();
        assert!(problems.contains("nothing to sign with; start `runcast serve --dev` once"), "{problems}");
    }
}
