#!/usr/bin/env bash
# payments: decides every order's payment, by the amount alone. One jq reads all requests and writes all answers.
#
# An order may come again (after a crash, say), so everything in the answer follows from the order: the id, the code, even
# the time. Whoever has seen the payment then drops its repetition.
set -euo pipefail

exec jq --unbuffered --compact-output --argjson limit "${PAYMENT_LIMIT:-100.00}" '
  # The id of a payment: that of its order with another beginning.
  def derived($mark): $mark + .[8:];

  def payment($timestamp):
    . as $order
    | if .amount <= $limit
      then {topic: "payments.authorized", status: "AUTHORIZED", eventId: (.eventId | derived("a0a0a0a0"))}
      else {topic: "payments.rejected", status: "REJECTED", eventId: (.eventId | derived("b0b0b0b0"))}
      end
    | {
        topic,
        value: (
          {eventId, orderId: $order.orderId, userId: $order.userId, amount: $order.amount, status}
          + if .status == "AUTHORIZED"
            then {authorizationCode: ("AUTH-" + ($order.eventId[24:] | ascii_upcase))}
            else {rejectionReason: "Insufficient funds"}
            end
          + {processedAt: (($timestamp / 1000 | floor | todate | rtrimstr("Z"))
              + "." + (($timestamp % 1000 + 1000 | tostring)[1:]) + "Z")}
        )
      };

  .timestamp as $timestamp
  | {id, emit: (if .value == null then [] else [.value | payment($timestamp)] end)}
' <&3 >&4
