package identity

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed common_passwords.txt
var commonPasswordList string

// commonPasswords returns the set of common passwords that are long enough to be chosen.
var commonPasswords = sync.OnceValue(func() map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(commonPasswordList) {
		if !strings.HasPrefix(line, "#") {
			set[strings.TrimSuffix(line, "\n")] = true
		}
	}
	return set
})

// isCommonPassword reports whether people choose the password so often that it is among the
// first to be guessed (OWASP ASVS 5.0, 6.2.4), in upper or lower case.
func isCommonPassword(password string) bool { return commonPasswords()[strings.ToLower(password)] }
