//go:build soak

package e2e

import "testing"

// TestLargeBatchUploadsItsPictureOnce is TestBatchUploadsItsPictureOnce with ten pages of the
// media preparer.
func TestLargeBatchUploadsItsPictureOnce(t *testing.T) {
	testBatchOfPicture(t, 10_000)
}
