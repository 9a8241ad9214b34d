package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/postcard-mms/postcard/client"
)

// exampleServer stands in for a Postcard installation in the examples.
func exampleServer() *httptest.Server {
	mux := http.NewServeMux()
	for pattern, body := range map[string]string{
		"POST /api/send-mms":             `{"id":"m1","status":"queued","statusTitle":"Queued"}`,
		"GET /api/messages/{id}":         `{"id":"m1","status":"delivered","statusTitle":"Delivered","explanation":"The carrier confirmed that the message arrived.","final":true}`,
		"POST /api/batches":              `{"id":"b1","state":"running","created":2,"rejected":1,"errors":[{"row":3,"field":"to","rule":"e164","message":"must be a phone number in E.164 form"}]}`,
		"GET /api/messages":              `{"messages":[{"id":"m2","status":"failed"},{"id":"m1","status":"failed"}]}`,
		"POST /api/messages/{id}/cancel": `{"detail":"The message can no longer be canceled: sending has started or finished."}`,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.PathValue("id") != "" && r.Method == http.MethodPost {
				w.WriteHeader(http.StatusConflict)
			}
			_, _ = io.WriteString(w, body)
		})
	}
	return httptest.NewServer(mux)
}

func ExampleNew() {
	server := exampleServer()
	defer server.Close()

	c := client.New(server.URL, "pc_...") // the URL of your installation and an API key
	c.MaxAttempts = 10                    // be more patient than by default
	message, err := c.Message(context.Background(), "m1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Explanation)
	// Output: The carrier confirmed that the message arrived.
}

func ExampleClient_Send() {
	server := exampleServer()
	defer server.Close()
	c := client.New(server.URL, "pc_...")

	message, err := c.Send(context.Background(), client.MessageParams{
		To:             "+14155550123",
		Text:           "Greetings from the coast",
		MediaURLs:      []string{"https://example.com/picture.jpg"},
		Metadata:       map[string]string{"order": "1017"},
		IdempotencyKey: "order-1017", // sending the same order twice creates one message
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.ID, message.StatusTitle)
	// Output: m1 Queued
}

func ExampleClient_Wait() {
	server := exampleServer()
	defer server.Close()
	c := client.New(server.URL, "pc_...")

	message, err := c.Wait(context.Background(), "m1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.StatusTitle)
	// Output: Delivered
}

func ExampleClient_SendBatch() {
	server := exampleServer()
	defer server.Close()
	c := client.New(server.URL, "pc_...")

	batch, err := c.SendBatch(context.Background(), client.BatchParams{
		Name:     "Spring greetings",
		Text:     "Hello {{name}}",
		MediaURL: "https://example.com/picture.jpg",
		OnError:  client.CreateValid,
		Rows: []map[string]string{
			{"to": "+14155550123", "name": "Ada"},
			{"to": "+14165551000", "name": "Bob"},
			{"to": "unknown", "name": "Eve"},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created:", batch.Created)
	for _, e := range batch.Errors {
		fmt.Printf("row %d: %s %s\n", e.Row, e.Field, e.Message)
	}
	// Output:
	// created: 2
	// row 3: to must be a phone number in E.164 form
}

func ExampleClient_List() {
	server := exampleServer()
	defer server.Close()
	c := client.New(server.URL, "pc_...")

	filter := client.Filter{Status: "failed", Limit: 100}
	for cursor := ""; ; {
		page, err := c.List(context.Background(), filter, cursor)
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range page.Messages {
			fmt.Println(m.ID, m.Status)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	// Output:
	// m2 failed
	// m1 failed
}

func ExampleError() {
	server := exampleServer()
	defer server.Close()
	c := client.New(server.URL, "pc_...")

	_, err := c.Cancel(context.Background(), "m1")
	var apiError *client.Error
	if errors.As(err, &apiError) && apiError.Status == http.StatusConflict {
		fmt.Println(apiError.Detail)
	}
	// Output: The message can no longer be canceled: sending has started or finished.
}
