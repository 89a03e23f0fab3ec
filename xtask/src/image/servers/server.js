// Answers every request with what it knows of itself, and says so.
const http = require('node:http');

const answer = (request, response) => {
  console.log(`${request.method} ${request.url}`);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({
    node: process.version,
    path: request.url,
    greeting: process.env.GREETING ?? null,
  }) + '\n');
};

const port = Number(process.env.PORT || 8080);
const server = http.createServer(answer);
server.listen(port, () => console.log(`listening on ${port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
