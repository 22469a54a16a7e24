// payments: decides every order's payment, by the amount alone.
//
// An order may come again (after a crash, say), so everything in the answer follows from the order: the id, the code,
// even the time. Whoever has seen the payment then drops its repetition.
package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"
)

type request struct {
	ID        int64  `json:"id"`
	Timestamp int64  `json:"timestamp"`
	Value     *order `json:"value"`
}

type order struct {
	EventID string      `json:"eventId"`
	OrderID string      `json:"orderId"`
	UserID  string      `json:"userId"`
	Amount  json.Number `json:"amount"` // as it is written: no digit is lost
}

type reply struct {
	ID          int64  `json:"id"`
	Emit        []emit `json:"emit,omitempty"`
	Retry       string `json:"retry,omitempty"`
	Unavailable string `json:"unavailable,omitempty"`
}

type emit struct {
	Topic string  `json:"topic"`
	Value payment `json:"value"`
}

type payment struct {
	EventID           string      `json:"eventId"`
	OrderID           string      `json:"orderId"`
	UserID            string      `json:"userId"`
	Amount            json.Number `json:"amount"`
	Status            string      `json:"status"`
	AuthorizationCode string      `json:"authorizationCode,omitempty"`
	RejectionReason   string      `json:"rejectionReason,omitempty"`
	ProcessedAt       string      `json:"processedAt"`
}

var ids = mustDecode("6f2f2d0e5a0c4c0c9a536f1a4b0d7c11")

func main() {
	limit := os.Getenv("PAYMENT_LIMIT")
	if limit == "" {
		limit = "100.00"
	}
	requests := bufio.NewReader(os.NewFile(3, "requests"))
	replies := json.NewEncoder(os.NewFile(4, "replies")) // writes each answer at once, with its newline
	for {
		line, err := requests.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		if err := replies.Encode(answer(line, limit)); err != nil {
			log.Fatal(err)
		}
	}
}

func answer(line []byte, limitText string) reply {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return reply{ID: asked.ID, Retry: err.Error()}
	}
	if asked.Value == nil { // a tombstone: the order was deleted, there is nothing to pay
		return reply{ID: asked.ID}
	}
	limit, err := strconv.ParseFloat(limitText, 64)
	if err != nil {
		return reply{ID: asked.ID, Unavailable: fmt.Sprintf("PAYMENT_LIMIT=%q is not an amount", limitText)}
	}
	amount, err := asked.Value.Amount.Float64()
	if err != nil {
		return reply{ID: asked.ID, Retry: err.Error()}
	}
	return reply{ID: asked.ID, Emit: []emit{decide(*asked.Value, amount <= limit, asked.Timestamp)}}
}

func decide(o order, authorized bool, timestamp int64) emit {
	made := payment{OrderID: o.OrderID, UserID: o.UserID, Amount: o.Amount,
		ProcessedAt: time.UnixMilli(timestamp).UTC().Format("2006-01-02T15:04:05.000Z")}
	if !authorized {
		made.Status, made.RejectionReason = "REJECTED", "Insufficient funds"
		made.EventID = uuid5(o.EventID + "/REJECTED")
		return emit{"payments.rejected", made}
	}
	made.Status, made.EventID = "AUTHORIZED", uuid5(o.EventID+"/AUTHORIZED")
	made.AuthorizationCode = "AUTH-" + strings.ToUpper(strings.ReplaceAll(made.EventID, "-", "")[:12])
	return emit{"payments.authorized", made}
}

// uuid5 gives the same name always the same id (RFC 9562, section 5.5).
func uuid5(name string) string {
	sum := sha1.Sum(append(append([]byte{}, ids...), name...))
	sum[6] = sum[6]&0x0f | 0x50
	sum[8] = sum[8]&0x3f | 0x80
	text := hex.EncodeToString(sum[:16])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

func mustDecode(text string) []byte {
	decoded, err := hex.DecodeString(text)
	if err != nil {
		log.Fatal(err)
	}
	return decoded
}
