// Calls the tasks in a file, one a line as [task, arguments, task id], with celery-node: publishers.js ADDRESS FILE
const celery = require("celery-node");
const fs = require("fs");

const [address, file] = process.argv.slice(2);
const client = celery.createClient(address, address, "events");

async function main() {
  await client.isReady();
  for (const line of fs.readFileSync(file, "utf8").trim().split("\n")) {
    const [task, named, id] = JSON.parse(line);
    client.sendTask(task, [], named, id);
  }
  await client.isReady();
  await client.disconnect();
}

main();
