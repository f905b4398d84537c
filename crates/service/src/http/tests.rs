//! What the doors let through, over real connections.

use super::access::{Access, Token};
use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn running(health: &Health, extra: Router) -> RunningHttp {
    let bind = HttpBind::new(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("loopback");
    serve(bind, Metrics::new("test"), health.clone(), extra)
        .await
        .expect("a free port")
}

/// The whole answer to one request, as text.
async fn request(http: &RunningHttp, method: &str, path: &str) -> String {
    request_with(http, method, path, "").await
}

/// The same with more headers, each ended by a line end.
async fn request_with(http: &RunningHttp, method: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(http.local_addr().expect("listening"))
        .await
        .expect("connected");
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn health_is_served_with_the_component_and_the_reason() {
    let health = Health::new();
    let http = running(&health, Router::new()).await;
    let consumer = health.component("consumer", None);
    consumer.not_ready("no broker");
    let answer = request(&http, "GET", "/health/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("application/json"), "{answer}");
    assert!(
        answer.contains(r#""name":"consumer""#) && answer.contains(r#""reason":"no broker""#),
        "{answer}"
    );
    assert!(
        request(&http, "GET", "/health/live")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    consumer.ready();
    let answer = request(&http, "GET", "/health/ready").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""status":"ready""#),
        "{answer}"
    );
    http.shutdown().await;
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let http = running(&Health::new(), Router::new()).await;
    let answer = request(&http, "GET", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains(metrics::CONTENT_TYPE) && answer.contains("loginlake_build_info"),
        "{answer}"
    );
    http.shutdown().await;
}

#[tokio::test]
async fn every_answer_is_secured_and_a_policy_of_the_service_stays() {
    let page = || async { ([(CONTENT_SECURITY_POLICY, "default-src 'self'")], "hello") };
    let http = running(&Health::new(), Router::new().route("/", get(page))).await;
    let answer = request(&http, "GET", "/").await;
    assert!(
        answer.contains("default-src 'self'") && !answer.contains("default-src 'none'"),
        "{answer}"
    );
    for (method, path, status) in [("GET", "/nothing", "404"), ("POST", "/metrics", "405")] {
        let answer = request(&http, method, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(
            answer.contains("default-src 'none'") && answer.contains("nosniff"),
            "{answer}"
        );
        assert!(
            answer.contains("no-referrer") && answer.contains(r#"{"error":"#),
            "{answer}"
        );
    }
    http.shutdown().await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let first = running(&Health::new(), Router::new()).await;
    let bind = HttpBind::new(first.local_addr().expect("listening"), false).expect("loopback");
    let error = serve(bind, Metrics::new("test"), Health::new(), Router::new())
        .await
        .expect_err("in use");
    assert!(error.to_string().ends_with("the address is in use"), "{error}");
    assert!(ExitError::from(error).hint.expect("a hint").contains("--http"));
    first.shutdown().await;
}

#[tokio::test]
async fn a_stop_closes_what_waits_and_frees_the_port() {
    let http = running(&Health::new(), Router::new()).await;
    let address = http.local_addr().expect("listening");
    let mut idle = TcpStream::connect(address).await.expect("connected");
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("sent");
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    http.shutdown().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed by the server");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer_that_never_ends() {
    let asked = CancellationToken::new();
    let seen = asked.clone();
    let endless = move || async move {
        seen.cancel();
        std::future::pending::<()>().await
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("listening");
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(endless));
    let accepting = tokio::spawn(accept(listener, None, router, stop.clone(), Duration::ZERO));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("sent");
    asked.cancelled().await;
    stop.cancel();
    accepting.await.expect("no panic");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .await
        .expect("closed by the server");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn switched_off_nothing_listens() {
    let http = serve(HttpBind::OFF, Metrics::new("test"), Health::new(), Router::new())
        .await
        .expect("off");
    assert_eq!(http.local_addr(), None);
    http.shutdown().await;
}

const TOKEN: &str = "0123456789abcdef";

async fn guarded(health: &Health) -> RunningHttp {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let access = Access::Token(Token::new(TOKEN).expect("long enough"));
    let router = Router::new().route("/page", get(|| async { "hello" }));
    serve(
        HttpBind::guarded(address, access),
        Metrics::new("test"),
        health.clone(),
        router,
    )
    .await
    .expect("a free port")
}

#[tokio::test]
async fn who_has_no_token_learns_only_whether_it_is_ready() {
    let health = Health::new();
    let http = guarded(&health).await;
    health
        .component("consumer", None)
        .not_ready("no broker at secret.example");
    let answer = request(&http, "GET", "/health/ready").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("not ready"),
        "{answer}"
    );
    assert!(
        !answer.contains("secret.example") && !answer.contains("consumer"),
        "{answer}"
    );
    for path in ["/metrics", "/page", "/nothing"] {
        let answer = request(&http, "GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
        assert!(
            answer.contains("www-authenticate: Bearer") && answer.contains("no-store"),
            "{answer}"
        );
    }
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let answer = request_with(&http, "GET", "/health/ready", &bearer).await;
    assert!(answer.contains("no broker at secret.example"), "{answer}");
    assert!(
        request_with(&http, "GET", "/page", &bearer)
            .await
            .ends_with("hello")
    );
    let metrics = request_with(&http, "GET", "/metrics", &bearer).await;
    assert!(
        metrics.contains("http_refused_requests_total{reason=\"no_token\"} 3\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("http_refused_requests_total{reason=\"wrong_token\"} 0\n"),
        "{metrics}"
    );
    http.shutdown().await;
}

#[tokio::test]
async fn a_browser_gets_a_form_and_a_cookie() {
    let http = guarded(&Health::new()).await;
    let page = request_with(&http, "GET", "/a/page?x=%22", "accept: text/html\r\n").await;
    assert!(page.starts_with("HTTP/1.1 401 "), "{page}");
    assert!(
        page.contains("action=\"../login\"") && page.contains("value=\"a/page?x=%22\""),
        "{page}"
    );
    assert!(
        page.contains("form-action 'self'") && page.contains("default-src 'none'"),
        "{page}"
    );
    let send = |form: String| {
        let length = form.len();
        format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}")
    };
    let wrong = request_with(&http, "POST", "/login", &send("token=wrong&next=page".to_owned())).await;
    assert!(
        wrong.contains("not the right token") && !wrong.contains("set-cookie"),
        "{wrong}"
    );
    let right = request_with(&http, "POST", "/login", &send(format!("token={TOKEN}&next=page"))).await;
    assert!(
        right.starts_with("HTTP/1.1 303 ") && right.contains("location: ./page"),
        "{right}"
    );
    let cookie = right
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .and_then(|line| line.split(';').next())
        .expect("a cookie");
    let answer = request_with(&http, "GET", "/page", &format!("cookie: {cookie}\r\n")).await;
    assert!(answer.ends_with("hello"), "{answer}");
    http.shutdown().await;
}

#[tokio::test]
async fn a_name_that_leads_here_by_somebody_elses_will_is_refused() {
    let http = running(&Health::new(), Router::new()).await;
    let mut stream = TcpStream::connect(http.local_addr().expect("listening"))
        .await
        .expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: attacker.example\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert!(request(&http, "GET", "/login").await.starts_with("HTTP/1.1 404 "));
    http.shutdown().await;
}
