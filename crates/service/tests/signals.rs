//! Signals, in a process of their own: this test runs itself again as the process that is stopped.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use loginlake_service::shutdown::Shutdown;

/// Set in the process that is stopped.
const STOPPED: &str = "LOGINLAKE_TEST_STOPPED_PROCESS";

#[tokio::test]
async fn the_first_signal_drains_and_the_second_stops_at_once() {
    if std::env::var_os(STOPPED).is_some() {
        return be_stopped().await;
    }
    for signal in ["TERM", "INT"] {
        let mut stopped = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "the_first_signal_drains_and_the_second_stops_at_once",
                "--nocapture",
            ])
            .env(STOPPED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test again");
        let mut lines = BufReader::new(stopped.stdout.take().expect("piped")).lines();
        let mut wait_for = |wanted: &str| {
            let found = lines
                .by_ref()
                .map_while(Result::ok)
                .any(|line| line.ends_with(wanted));
            assert!(found, "{wanted}");
        };
        wait_for("waiting");
        send(signal, &stopped);
        wait_for("draining");
        send(signal, &stopped);
        let stdin = stopped.stdin.take();
        assert_eq!(stopped.wait().expect("it ends").code(), Some(130), "{signal}");
        drop(stdin);
    }
}

/// Says when it waits for a signal and when it has one; then it drains for ever.
async fn be_stopped() {
    // The standard input ends with the test that started this process, whatever becomes of that test.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let shutdown = Shutdown::on_signals().expect("handlers");
    println!("\nwaiting");
    shutdown.requested().await;
    println!("\ndraining");
    std::future::pending::<()>().await;
}

fn send(signal: &str, to: &Child) {
    let sent = Command::new("kill")
        .args([format!("-{signal}"), to.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
}
