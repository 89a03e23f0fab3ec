struct No;
#[async_trait::async_trait]
impl helix_cli::Up for No {
    async fn start(&self, _: &helix_cli::UpOptions) -> Result<Box<dyn helix_cli::Platform>, helix_model::Problem> {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        Err(helix_model::Problem::new(helix_model::Code::Unavailable, "none"))
    }
}
#[tokio::main(flavor="current_thread")]
async fn main() -> std::process::ExitCode {
    let io = helix_cli::Io::standard().unwrap();
    helix_cli::run(std::env::args_os(), io, &No).await.into()
}
