package queue

import (
	"os"
	"testing"

	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "postcard-queue-")
	if err == nil {
		err = createCertificate(dir)
	}
	if err != nil {
		panic(err)
	}
	testkit.Main(m, func() { os.RemoveAll(dir) })
}
