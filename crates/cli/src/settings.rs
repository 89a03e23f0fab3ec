//! Where a command looks for what it was not told: flag, then `HELIX_*`
//! variable, then `helix.toml` here, then the saved context.
//!
//! The env is never guessed: it comes from a flag, a variable or the context.

use std::path::{Path, PathBuf};
use std::time::Duration;

use helix_model::reference::Scope;
use helix_model::{AnyId, Code, Kind, Name, Problem};

use crate::args::GlobalArgs;
use crate::context::{self, Context};
use crate::failure::{Failure, Result};
use crate::io::Environment;
use crate::secrets;

/// Where an API listens unless told otherwise.
pub(crate) const URL_DEFAULT: &str = "http://127.0.0.1:7420";
/// Who is asking, and the file that holds it.
const TOKEN: &str = "HELIX_TOKEN";
pub(crate) const TOKEN_FILE: &str = "HELIX_TOKEN_FILE";
/// The manifest's file name.
pub(crate) const MANIFEST_FILE: &str = "helix.toml";
/// The org and the project that every installation begins with.
const FIRST_NAME: &str = "default";

/// Where a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Variable,
    Manifest,
    /// The name of the folder, for want of anything better.
    Folder,
    Context,
}

/// A setting and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: Name,
    pub(crate) origin: Origin,
}

/// Everything a command may need to know besides its own arguments.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) url: String,
    /// As it was given or saved; [`Settings::token`] looks into the file, too.
    pub(crate) token: Option<String>,
    /// Holds the token where none was given: read by the commands that need one.
    token_file: Option<PathBuf>,
    pub(crate) org: Name,
    /// Whether a flag or a variable names the project.
    project_given: bool,
    /// Whether a flag or a variable named the org.
    pub(crate) org_given: bool,
    pub(crate) project: Name,
    /// From a flag or a variable; [`Settings::app`] looks further.
    pub(crate) app_given: Option<Setting>,
    pub(crate) env: Option<Setting>,
    pub(crate) context: Option<Context>,
    pub(crate) directory: PathBuf,
}

/// An env with everything above it named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) org: Name,
    pub(crate) project: Name,
    pub(crate) app: Name,
    pub(crate) env: Name,
}

impl Settings {
    /// Puts flags, variables and the saved context in order. What the manifest
    /// says is looked up when it is needed.
    pub(crate) fn resolve(
        flags: &GlobalArgs,
        environment: &Environment,
        directory: &Path,
        context: Option<Context>,
    ) -> Result<Settings> {
        let saved = context.as_ref();
        let (url, mut token) = api(flags, environment, saved);
        let token_file = environment.get(TOKEN_FILE).map(|path| directory.join(path));
        let token_file = token_file.filter(|_| environment.get(TOKEN).is_none());
        if token_file.is_some() {
            token = None;
        }
        let org = given("org", flags.org.as_deref(), "HELIX_ORG", environment)?;
        let project = given("project", flags.project.as_deref(), "HELIX_PROJECT", environment)?;
        let env = given("env", flags.env.as_deref(), "HELIX_ENV", environment)?;
        let remembered = |name: Option<&Name>| {
            name.map(|name| Setting { name: name.clone(), origin: Origin::Context })
        };
        let or_first = |setting: Option<Setting>, saved: Option<&Name>| {
            let setting = setting.or_else(|| remembered(saved));
            setting.map_or_else(|| FIRST_NAME.parse(), |setting| Ok(setting.name))
        };
        let first_name =
            |error: helix_model::name::NameError| Failure::usage(error.to_string(), "");
        Ok(Settings {
            project_given: project.is_some(),
            url,
            token,
            token_file,
            org_given: org.is_some(),
            org: or_first(org, saved.and_then(|saved| saved.org.as_ref())).map_err(first_name)?,
            project: or_first(project, saved.and_then(|saved| saved.project.as_ref()))
                .map_err(first_name)?,
            app_given: given("app", flags.app.as_deref(), "HELIX_APP", environment)?,
            env: env.or_else(|| remembered(saved.and_then(|saved| saved.env.as_ref()))),
            context,
            directory: directory.to_owned(),
        })
    }

    /// The token to ask with, if there is one.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(path)) => secrets::token_in(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The app: as given, else `app.name` of the manifest here, else the name of
    /// this folder. `None` when the folder's name has no usable letter.
    pub(crate) fn app(&self) -> Result<Option<Setting>> {
        if let Some(given) = &self.app_given {
            return Ok(Some(given.clone()));
        }
        if let Some(name) = manifest_name(&self.directory)? {
            return Ok(Some(Setting { name, origin: Origin::Manifest }));
        }
        let folder = self.directory.file_name().map(|name| name.to_string_lossy());
        Ok(folder
            .and_then(|folder| Name::derive(&folder))
            .map(|name| Setting { name, origin: Origin::Folder }))
    }

    /// The env this command is about. Missing parts are a usage error.
    pub(crate) fn target(&self) -> Result<Target> {
        let app = self.app()?.ok_or_else(|| missing("app", "--app"))?;
        self.target_of(app.name)
    }

    /// The same for an app that is known already.
    pub(crate) fn target_of(&self, app: Name) -> Result<Target> {
        let env = self.env.clone().ok_or_else(|| missing("env", "--env"))?;
        Ok(Target { org: self.org.clone(), project: self.project.clone(), app, env: env.name })
    }

    /// What completes a reference of this kind. Parts that the reference itself
    /// does not name must be known.
    pub(crate) fn scope_for(&self, kind: Kind, reference: &str) -> Result<Scope> {
        let complete = reference.parse::<AnyId>().is_ok();
        if matches!(
            kind,
            Kind::User
                | Kind::Member
                | Kind::Token
                | Kind::Volume
                | Kind::Snapshot
                | Kind::Certificate
                | Kind::Domain
                | Kind::Tunnel
        ) {
            return Ok(self.org_scope());
        }
        let mut scope = self.project_scope();
        let needs_app = match kind {
            Kind::Env => !reference.contains('@'),
            Kind::Release => !reference.contains(':'),
            Kind::Deploy | Kind::Instance | Kind::Endpoint | Kind::Bundle => {
                !reference.contains('@')
            }
            Kind::Org | Kind::Project | Kind::App | Kind::Node | Kind::Edge => false,
            Kind::User
            | Kind::Member
            | Kind::Token
            | Kind::Volume
            | Kind::Snapshot
            | Kind::Certificate
            | Kind::Domain
            | Kind::Tunnel => false,
        };
        if complete || !needs_app {
            return Ok(scope);
        }
        let app = self.app()?.ok_or_else(|| missing("app", "--app"))?;
        scope.app = Some(app.name.to_string());
        if matches!(kind, Kind::Deploy | Kind::Instance | Kind::Endpoint | Kind::Bundle) {
            let env = self.env.as_ref().ok_or_else(|| missing("env", "--env"))?;
            scope.env = Some(env.name.to_string());
        }
        Ok(scope)
    }

    /// What a list of this kind is narrowed to. A folder's name alone narrows
    /// nothing: lists are for finding out what there is.
    pub(crate) fn list_scope(&self, kind: Kind, everything: bool) -> Result<Scope> {
        let mut scope = match kind {
            // Tokens of one's own are in no org.
            Kind::Org | Kind::Node | Kind::Edge | Kind::User | Kind::Token => {
                return Ok(Scope::default());
            }
            Kind::Member
            | Kind::Volume
            | Kind::Snapshot
            | Kind::Certificate
            | Kind::Domain
            | Kind::Tunnel => {
                return Ok(self.org_scope());
            }
            Kind::Project => Scope { org: Some(self.org.to_string()), ..Scope::default() },
            _ => self.project_scope(),
        };
        let below_app = !matches!(kind, Kind::Project | Kind::App);
        let app = match self.app() {
            Ok(app) => app.filter(|app| app.origin != Origin::Folder),
            // Listing what there is must work beside a broken manifest.
            Err(_) => None,
        };
        if let Some(app) = app.filter(|_| below_app && !everything) {
            scope.app = Some(app.name.to_string());
            if matches!(kind, Kind::Deploy | Kind::Instance | Kind::Endpoint | Kind::Bundle) {
                scope.env = self.env.as_ref().map(|env| env.name.to_string());
            }
        }
        Ok(scope)
    }

    /// The org, and inside it only what this very line or a variable names.
    pub(crate) fn scope_given(&self) -> Result<Scope> {
        let env = self.env.as_ref();
        let env = env.filter(|env| matches!(env.origin, Origin::Flag | Origin::Variable));
        let app = match (&self.app_given, env) {
            (Some(app), _) => Some(app.name.clone()),
            (None, Some(_)) => Some(self.app()?.ok_or_else(|| missing("app", "--app"))?.name),
            (None, None) => None,
        };
        let project = (self.project_given || app.is_some()).then(|| self.project.to_string());
        Ok(Scope {
            org: Some(self.org.to_string()),
            project,
            app: app.map(|app| app.to_string()),
            env: env.map(|env| env.name.to_string()),
        })
    }

    /// What completes the name of something that is directly in an org.
    pub(crate) fn org_scope(&self) -> Scope {
        Scope { org: Some(self.org.to_string()), ..Scope::default() }
    }

    fn project_scope(&self) -> Scope {
        Scope {
            org: Some(self.org.to_string()),
            project: Some(self.project.to_string()),
            ..Scope::default()
        }
    }
}

impl Target {
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            org: Some(self.org.to_string()),
            project: Some(self.project.to_string()),
            app: Some(self.app.to_string()),
            env: Some(self.env.to_string()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}@{}", self.org, self.project, self.app, self.env)
    }
}

/// Which API, and the token for it. The saved token belongs to the saved URL;
/// an API named otherwise must not learn it.
fn api(
    flags: &GlobalArgs,
    environment: &Environment,
    saved: Option<&Context>,
) -> (String, Option<String>) {
    let named = flags.url.as_deref().or_else(|| environment.get("HELIX_URL"));
    let url = named.or(saved.map(|saved| saved.url.as_str())).unwrap_or(URL_DEFAULT).to_owned();
    let saved_token = saved.and_then(|saved| saved.token_for(&url));
    let token = environment.get(TOKEN).map(str::to_owned).or(saved_token);
    (url, token)
}

fn given(
    what: &str,
    flag: Option<&str>,
    variable: &str,
    environment: &Environment,
) -> Result<Option<Setting>> {
    let flag = flag.map(|text| (text, Origin::Flag));
    let variable_value = environment.get(variable).map(|text| (text, Origin::Variable));
    let Some((text, origin)) = flag.or(variable_value) else {
        return Ok(None);
    };
    let source = match origin {
        Origin::Flag => format!("--{what}"),
        _ => variable.to_owned(),
    };
    let name = text.parse().map_err(|error: helix_model::name::NameError| {
        Failure::usage(
            format!("{source}: {error}"),
            format!("`helix {what}s list` shows what there is"),
        )
    })?;
    Ok(Some(Setting { name, origin }))
}

fn missing(what: &str, flag: &str) -> Failure {
    Failure::usage(
        format!("which {what}? none was given, and none is guessed"),
        format!("add `{flag} NAME` or set HELIX_{}", what.to_uppercase()),
    )
}

/// `app.name` of the manifest in a folder. Read leniently: a manifest that
/// cannot be deployed still says which app one is in.
fn manifest_name(folder: &Path) -> Result<Option<Name>> {
    let path = folder.join(MANIFEST_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| unreadable(&path, &error.message()))?;
    let name = table.get("app").and_then(|app| app.get("name"));
    name.and_then(toml::Value::as_str)
        .map(|name| name.parse().map_err(|error| unreadable(&path, &error)))
        .transpose()
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let detail = format!("cannot tell the app from {}: {error}", path.display());
    Problem::new(Code::ManifestInvalid, detail)
        .hint("`helix validate` shows what is wrong; `--app NAME` does without the file")
        .into()
}

/// How long the server keeps something in its database, from a flag or a
/// variable; for ever when neither says.
pub(crate) fn keep(
    flag: Option<Duration>,
    variable: &str,
    environment: &Environment,
) -> Result<Option<Duration>> {
    let Some(text) = environment.get(variable).filter(|_| flag.is_none()) else {
        return Ok(flag);
    };
    let parsed = crate::duration::parse(text);
    parsed.map(Some).map_err(|hint| {
        Failure::usage(format!("{variable} is not a length of time: `{text}`"), hint)
    })
}

/// The data directory of a platform on this machine.
pub(crate) fn data_dir(flag: Option<&Path>, environment: &Environment) -> Result<PathBuf> {
    flag.map(Path::to_owned)
        .or_else(|| environment.get("HELIX_DATA_DIR").map(PathBuf::from))
        .or_else(|| context::data(environment))
        .ok_or_else(|| {
            Failure::usage("there is no place to keep data in", "add `--data-dir DIR` or set HOME")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Context {
        Context {
            url: "http://127.0.0.1:7420".into(),
            token: Some("saved-token".into()),
            org: Some("acme".parse().unwrap()),
            project: None,
            env: Some("production".parse().unwrap()),
            data_dir: None,
            logins: Default::default(),
        }
    }

    fn resolve(flags: &GlobalArgs, environment: Environment, folder: &Path) -> Settings {
        Settings::resolve(flags, &environment, folder, Some(saved())).unwrap()
    }

    #[test]
    fn flag_beats_variable_beats_manifest_beats_context() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("My Site");
        std::fs::create_dir(&here).unwrap();
        let app = |flags: &GlobalArgs, environment: Environment| {
            let app = resolve(flags, environment, &here).app().unwrap().unwrap();
            (app.name.to_string(), app.origin)
        };
        let none = GlobalArgs::default();
        assert_eq!(app(&none, [].into()), ("my-site".into(), Origin::Folder));
        std::fs::write(here.join(MANIFEST_FILE), "[app]\nname = \"site\"").unwrap();
        assert_eq!(app(&none, [].into()), ("site".into(), Origin::Manifest));
        let variable = || Environment::from([("HELIX_APP", "other")]);
        assert_eq!(app(&none, variable()), ("other".into(), Origin::Variable));
        let flags = GlobalArgs { app: Some("flagged".into()), ..GlobalArgs::default() };
        assert_eq!(app(&flags, variable()), ("flagged".into(), Origin::Flag));
    }

    #[test]
    fn context_is_last_and_project_has_a_default() {
        let here = Path::new("/srv/hello");
        let settings = resolve(&GlobalArgs::default(), [].into(), here);
        assert_eq!(settings.target().unwrap().to_string(), "acme/default/hello@production");
        let settings = resolve(&GlobalArgs::default(), [("HELIX_ENV", "staging")].into(), here);
        assert_eq!(settings.target().unwrap().to_string(), "acme/default/hello@staging");
    }

    #[test]
    fn the_env_is_never_guessed() {
        let none = GlobalArgs::default();
        let settings = Settings::resolve(&none, &[].into(), Path::new("/srv/hello"), None).unwrap();
        let failure = settings.target().unwrap_err();
        assert_eq!(failure.exit_code, 2);
        assert!(failure.problem.hint.contains("--env"), "{}", failure.problem.hint);
    }

    #[test]
    fn another_api_does_not_get_the_saved_token() {
        let here = Path::new("/");
        let token = |environment| resolve(&GlobalArgs::default(), environment, here).token;
        assert_eq!(token([].into()).as_deref(), Some("saved-token"));
        assert_eq!(
            token([("HELIX_URL", "http://127.0.0.1:7420/")].into()).as_deref(),
            Some("saved-token")
        );
        assert_eq!(token([("HELIX_URL", "http://example.net")].into()), None);
        let named = [("HELIX_URL", "http://example.net"), ("HELIX_TOKEN", "other")];
        assert_eq!(token(named.into()).as_deref(), Some("other"));
    }

    #[test]
    fn lists_narrow_to_the_app_only_when_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let settings = resolve(&GlobalArgs::default(), [].into(), folder.path());
        assert_eq!(settings.list_scope(Kind::Instance, false).unwrap().app, None);
        std::fs::write(folder.path().join(MANIFEST_FILE), "[app]\nname = \"site\"").unwrap();
        let scope = settings.list_scope(Kind::Instance, false).unwrap();
        assert_eq!(
            (scope.app.as_deref(), scope.env.as_deref()),
            (Some("site"), Some("production"))
        );
        assert_eq!(settings.list_scope(Kind::Instance, true).unwrap().app, None);
        assert_eq!(settings.list_scope(Kind::Node, false).unwrap(), Scope::default());
    }

    #[test]
    fn a_wrong_name_is_named_with_its_source() {
        let flags = GlobalArgs { org: Some("Ac_me".into()), ..GlobalArgs::default() };
        let failure = Settings::resolve(&flags, &[].into(), Path::new("/"), None).unwrap_err();
        assert!(failure.problem.detail.starts_with("--org: "), "{}", failure.problem.detail);
        assert_eq!(failure.exit_code, 2);
    }
}
