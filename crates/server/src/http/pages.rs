//! The few pages a person sees in a browser: approving a login, choosing a
//! password.
//!
//! They work without a cookie and without a script: whoever posts a form sends
//! the password along, so there is no session another site could ride on; posts
//! that come from another site are refused all the same.

use axum::Extension;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use helix_model::api::access::SetupRequest;
use helix_model::{Code, Name, Problem};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Api;
use super::identity::Guest;
use super::login;
use crate::auth::devices::{Asked, Verdict, shown_user_code};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:10vh auto;padding:0 1rem;color:#1a1a1a;background:#fff}h1{font-size:1.3rem}label{display:block;margin:.8rem 0}input{display:block;width:100%;box-sizing:border-box;padding:.5rem;font:inherit;border:1px solid #999;border-radius:4px}button{padding:.5rem 1.2rem;font:inherit;margin:.4rem .5rem 0 0;border:1px solid #555;border-radius:4px;background:#f3f3f3}.wrong{color:#a00000}code{font-size:1.2em;letter-spacing:.1em}@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}input,button{color:inherit;background:#222}.wrong{color:#ff8080}}";

#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct LoginForm {
    code: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    verdict: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct SetupForm {
    name: String,
    code: String,
    password: String,
    again: String,
}

/// Asks for the code, or for who approves it.
pub(super) async fn device(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    typed: Result<Query<Typed>, QueryRejection>,
) -> Response {
    let typed = match typed {
        Ok(Query(typed)) => typed,
        Err(rejection) => {
            return refused(&unread(&rejection.body_text()), |why| code_form("", why));
        }
    };
    if typed.code.is_empty() {
        return page(StatusCode::OK, &code_form("", ""));
    }
    match find(&api, &guest, &typed.code).await {
        Ok(asked) => page(StatusCode::OK, &approve_form(&asked, "", "")),
        Err(problem) => refused(&problem, |why| code_form(&typed.code, why)),
    }
}

/// Approves or denies, once name and password are right.
pub(super) async fn device_answer(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    answer: Result<Form<LoginForm>, FormRejection>,
) -> Response {
    if let Err(problem) = must_be_own_form(&headers) {
        return refused(&problem, |why| code_form("", why));
    }
    let answer = match answer {
        Ok(Form(answer)) => answer,
        Err(rejection) => {
            return refused(&unread(&rejection.body_text()), |why| code_form("", why));
        }
    };
    let asked = match find(&api, &guest, &answer.code).await {
        Ok(asked) => asked,
        Err(problem) => return refused(&problem, |why| code_form(&answer.code, why)),
    };
    let name = answer.name.clone();
    match decide(&api, &guest, asked.clone(), answer).await {
        Ok(message) => {
            page(StatusCode::OK, &format!("<h1>{message}</h1><p>This window may be closed.</p>"))
        }
        Err(problem) => refused(&problem, |why| approve_form(&asked, &name, why)),
    }
}

async fn decide(
    api: &Api,
    guest: &Guest,
    asked: Asked,
    answer: LoginForm,
) -> Result<&'static str, Problem> {
    let wrong = |_| Problem::new(Code::AccessDenied, "the name or the password is wrong");
    let name: Name = answer.name.parse().map_err(wrong)?;
    let denies = answer.verdict == "deny";
    let operation = if denies { "deny_login" } else { "approve_login" };
    let user = login::authenticate(api, guest, &name, answer.password, operation).await?;
    if denies {
        api.devices.answer(asked, Verdict::Denied).await?;
        return Ok("The login was denied.");
    }
    api.devices.answer(asked, Verdict::Approved(user)).await?;
    Ok("Logged in.")
}

async fn find(api: &Api, guest: &Guest, code: &str) -> Result<Asked, Problem> {
    api.limits.must_be_few_failures(guest.source, "")?;
    if let Some(asked) = api.devices.find(code).await? {
        return Ok(asked);
    }
    api.limits.failed(guest.source, "");
    Err(Problem::new(Code::NotFound, "Nothing waits under this code, or not any more."))
}

/// Asks for a setup code and a password.
pub(super) async fn setup() -> Response {
    page(StatusCode::OK, &setup_form("", ""))
}

/// Sets the password.
pub(super) async fn setup_answer(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    form: Result<Form<SetupForm>, FormRejection>,
) -> Response {
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => {
            return refused(&unread(&rejection.body_text()), |why| setup_form("", why));
        }
    };
    let name = form.name.clone();
    let chosen = async {
        must_be_own_form(&headers)?;
        if form.password != form.again {
            return Err(Problem::new(Code::InvalidArgument, "the two passwords are not the same"));
        }
        let wrong = |_| Problem::new(Code::AccessDenied, "the name or the code is wrong");
        let user = form.name.parse().map_err(wrong)?;
        let setup_code = form.code.trim().to_owned();
        let request = SetupRequest { user, setup_code, password: form.password };
        login::choose_password(&api, &guest, request).await
    };
    match chosen.await {
        Ok(_) => page(
            StatusCode::OK,
            "<h1>The password is set.</h1><p>Now <code>helix auth login</code> works.</p>",
        ),
        Err(problem) => refused(&problem, |why| setup_form(&name, why)),
    }
}

/// What was sent is no form of ours; told on the page, not as bare text.
fn unread(why: &str) -> Problem {
    Problem::new(Code::InvalidArgument, why)
}

/// Browsers say where a form was posted from; what is no browser has no victim.
fn must_be_own_form(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    let by_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let origin_host = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let by_origin = origin.is_none() || origin_host == host;
    if by_site && by_origin {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "the form was sent from another site"))
}

fn code_form(code: &str, wrong: &str) -> String {
    format!(
        "<h1>Log in a device</h1>{}<form method=\"get\" action=\"/device\"><label>Code shown there\
         <input name=\"code\" value=\"{}\" autocomplete=\"off\" autofocus required></label>\
         <button>Continue</button></form>",
        warning(wrong),
        escaped(code),
    )
}

fn approve_form(asked: &Asked, name: &str, wrong: &str) -> String {
    let code = shown_user_code(&asked.user_code);
    let client = if asked.client.is_empty() { "a program" } else { &asked.client };
    let from = asked.source.map_or_else(String::new, |source| format!(" at {source}"));
    format!(
        "<h1>Log in a device</h1>{}<p><b>{}</b>{} asks to act as you. Go on only if it shows \
         <code>{code}</code>.</p><form method=\"post\" action=\"/device\">\
         <input type=\"hidden\" name=\"code\" value=\"{code}\">\
         <label>Name<input name=\"name\" value=\"{}\" autocomplete=\"username\" required></label>\
         <label>Password<input type=\"password\" name=\"password\" autocomplete=\"current-password\" required></label>\
         <button name=\"verdict\" value=\"approve\">Approve</button>\
         <button name=\"verdict\" value=\"deny\">Deny</button></form>",
        warning(wrong),
        escaped(client),
        escaped(&from),
        escaped(name),
    )
}

fn setup_form(name: &str, wrong: &str) -> String {
    format!(
        "<h1>Choose a password</h1>{}<form method=\"post\" action=\"/setup\">\
         <label>Name<input name=\"name\" value=\"{}\" autocomplete=\"username\" required></label>\
         <label>Setup code<input name=\"code\" autocomplete=\"off\" required></label>\
         <label>Password<input type=\"password\" name=\"password\" autocomplete=\"new-password\" required></label>\
         <label>Once more<input type=\"password\" name=\"again\" autocomplete=\"new-password\" required></label>\
         <button>Set password</button></form>",
        warning(wrong),
        escaped(name),
    )
}

fn warning(wrong: &str) -> String {
    if wrong.is_empty() {
        String::new()
    } else {
        format!("<p class=\"wrong\">{}</p>", escaped(wrong))
    }
}

fn refused(problem: &Problem, form: impl FnOnce(&str) -> String) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = page(status, &form(&problem.detail));
    if let Some(seconds) = problem.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A whole page that runs nothing, is shown in no frame and posts to us alone.
fn page(status: StatusCode, body: &str) -> Response {
    let style_hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style_hash}'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>HelixStack</title>\
         <style>{STYLE}</style><body>{body}</body></html>"
    );
    let headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy.as_str()),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ];
    (status, headers.map(|(name, value)| (name.to_owned(), value.to_owned())), html).into_response()
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_send_is_text_on_the_page_and_never_markup() {
        let form = code_form("\"><script>alert(1)</script>", "<b>");
        assert!(!form.contains("<script>") && !form.contains("<b>"), "{form}");
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let headers = |list: &[(&'static str, &'static str)]| {
            list.iter()
                .map(|(name, value)| {
                    (name.parse::<http::HeaderName>().ok(), HeaderValue::from_static(value))
                })
                .filter_map(|(name, value)| Some((name?, value)))
                .collect::<HeaderMap>()
        };
        let own = [("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "same-origin")];
        assert!(must_be_own_form(&headers(&own)).is_ok());
        assert!(must_be_own_form(&headers(&[("host", "a:1")])).is_ok());
        for other in
            [("origin", "http://b:1"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            assert!(must_be_own_form(&headers(&[("host", "a:1"), other])).is_err(), "{other:?}");
        }
    }
}
