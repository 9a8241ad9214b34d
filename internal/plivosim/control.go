package plivosim

import (
	"io"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
)

// maxControlBody bounds the request bodies of the control endpoints, in bytes.
const maxControlBody = 64 << 10

// controlRoutes serves /sim/. These endpoints exist only in the simulator and need no
// credentials: never expose the simulator to the internet.
//
//	GET    /sim/health     {"status":"ok"}
//	GET    /sim/ledger     []Entry
//	GET    /sim/requests   []Request
//	GET    /sim/pictures   pictures for trials, also with faults
//	GET    /sim/pictures/{name}    one of them
//	GET    /sim/scenarios  []ScenarioInfo
//	GET    /sim/uploads    []Upload
//	GET    /sim/contents   []Content
//	GET    /sim/contents/{sha256}  the bytes of one
//	POST   /sim/faults     Fault, see SetFault
//	DELETE /sim/faults     see ClearFaults
//	DELETE /sim/media      see ForgetMedia
//	POST   /sim/inbound    Text, see Receive
//	POST   /sim/reset      see Reset
func (s *Simulator) controlRoutes(r chi.Router) {
	show := func(path string, value func() any) {
		r.Get(path, func(w http.ResponseWriter, _ *http.Request) { writeControl(w, http.StatusOK, value()) })
	}
	show("/sim/health", func() any { return map[string]string{"status": "ok"} })
	show("/sim/ledger", func() any { return s.Ledger() })
	show("/sim/requests", func() any { return s.Requests() })
	show("/sim/uploads", func() any { return s.Uploads() })
	show("/sim/contents", func() any { return s.Contents() })
	r.Get("/sim/contents/{sha256}", s.getContent)
	pictureRoutes(r)
	show("/sim/scenarios", func() any { return Scenarios() })
	r.Post("/sim/faults", s.postFault)
	r.Delete("/sim/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	r.Delete("/sim/media", func(w http.ResponseWriter, _ *http.Request) {
		s.ForgetMedia()
		w.WriteHeader(http.StatusNoContent)
	})
	r.Post("/sim/inbound", s.postInbound)
	r.Post("/sim/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
}

func (s *Simulator) postFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	err := decodeOne(http.MaxBytesReader(w, r.Body, maxControlBody), &f)
	if err == nil {
		err = s.SetFault(f)
	}
	if err != nil {
		writeControl(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Simulator) getContent(w http.ResponseWriter, r *http.Request) {
	file, data, ok := s.Data(chi.URLParam(r, "sha256"))
	if !ok {
		writeControl(w, http.StatusNotFound, map[string]string{"error": "nothing with this SHA-256 was uploaded or fetched"})
		return
	}
	serveFile(w, file.Type, data)
}

// serveFile sends no Content-Type if the media type is empty.
func serveFile(w http.ResponseWriter, mediaType string, data []byte) {
	w.Header()["Content-Type"] = []string{mediaType}
	if mediaType == "" {
		w.Header()["Content-Type"] = nil // keeps net/http from adding one
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

func writeControl(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, jsonText(v)+"\n")
}
