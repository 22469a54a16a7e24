// The benchmark's handler as a program: reads a line, writes a line.
const fs = require("node:fs");
const requests = require("node:readline").createInterface({ input: fs.createReadStream(null, { fd: 3 }) });

requests.on("line", (line) => {
  const { id, value } = JSON.parse(line);
  const payment = {
    eventId: [...value.eventId].reverse().join(""),
    orderId: value.orderId,
    userId: value.userId,
    amount: value.amount,
    status: "AUTHORIZED",
    authorizationCode: `AUTH-${value.orderId.slice(0, 12)}`,
    processedAt: value.createdAt,
  };
  fs.writeSync(4, JSON.stringify({ id, emit: [{ topic: "payments", value: payment }] }) + "\n");
});
