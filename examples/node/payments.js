// payments: decides every order's payment, by the amount alone.
//
// An order may come again (after a crash, say), so everything in the answer follows from the order: the id, the code, even the
// time. Whoever has seen the payment then drops its repetition.
"use strict";

const { createHash } = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");

const LIMIT = Number(process.env.PAYMENT_LIMIT ?? "100.00");
const IDS = Buffer.from("6f2f2d0e5a0c4c0c9a536f1a4b0d7c11", "hex");

function handle({ value, timestamp }) {
  if (value === null) return []; // a tombstone: the order was deleted, there is nothing to pay
  const authorized = value.amount <= LIMIT;
  const status = authorized ? "AUTHORIZED" : "REJECTED";
  const eventId = uuid5(`${value.eventId}/${status}`);
  const verdict = authorized
    ? { authorizationCode: `AUTH-${eventId.replaceAll("-", "").slice(0, 12).toUpperCase()}` }
    : { rejectionReason: "Insufficient funds" };
  const payment = {
    eventId,
    orderId: value.orderId,
    userId: value.userId,
    amount: value.amount,
    status,
    ...verdict,
    processedAt: new Date(timestamp).toISOString(),
  };
  return [{ topic: authorized ? "payments.authorized" : "payments.rejected", value: payment }];
}

// RFC 9562, section 5.5: the same name always has the same id.
function uuid5(name) {
  const hash = createHash("sha1").update(IDS).update(name).digest();
  hash[6] = (hash[6] & 0x0f) | 0x50;
  hash[8] = (hash[8] & 0x3f) | 0x80;
  return hash.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function answer({ id, ...event }) {
  if (Number.isNaN(LIMIT)) return { id, unavailable: `PAYMENT_LIMIT=${process.env.PAYMENT_LIMIT} is not an amount` };
  try {
    return { id, emit: handle(event) };
  } catch (error) {
    return { id, retry: error.message, type: error.name, stack: error.stack };
  }
}

const requests = readline.createInterface({ input: fs.createReadStream(null, { fd: 3 }) });
requests.on("line", (line) => fs.writeSync(4, JSON.stringify(answer(JSON.parse(line))) + "\n"));
