package csvrows_test

import (
	"runtime"
	"strings"
	"testing"
)

// TestExplainingAnEncodingNeedsLittleMemory is not parallel, because it counts what the
// process allocates.
func TestExplainingAnEncodingNeedsLittleMemory(t *testing.T) {
	file := "to,name\n+1," + strings.Repeat("n", 16<<20) + " Jos\xe9\n"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readAll(file, "")
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "“José”") {
		t.Errorf("got error %v, want one that shows the word José", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated for a line of 16 MiB, want at most 4 MiB", used)
	}
}
