//! `helix`: pick a role and wire the rooms together. Knows nothing else.

mod node_link;
mod platform;
mod token_file;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "shim") { return helix_runtime::shim_main(args.into_iter().skip(2)); }
    if args.get(1).is_some_and(|a| a == "serve-files") {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build().expect("rt");
        rt.block_on(async { let port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(8080);
            helix_files::serve(helix_files::Options::new("/srv", port), helix_files::termination().expect("t")).await.expect("serve") });
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_env("HELIX_LOG")).with_writer(std::io::stderr).init();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("rt");
    rt.block_on(async move {
        let p = platform::Platform::start(platform::Options { data_dir: args[1].clone().into(), listen: "127.0.0.1:7420".parse().expect("a"), http_listen: "[::]:8080".parse().expect("a"), helix_exe: std::env::current_exe().expect("exe"), isolation: None, any_ip: helix_edge::AnyIp::Auto }).await.expect("start");
        println!("{} {}", p.api(), p.token().reveal());
        tokio::signal::ctrl_c().await.expect("c");
        p.shutdown().await;
    });
    ExitCode::SUCCESS
}
