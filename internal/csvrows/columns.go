package csvrows

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/pasted"
)

// recipientColumn is the column of the recipients in the rows that CSV returns.
const recipientColumn = "to"

// recipientNames are other names of the recipients' column, as plainName returns them.
// They count only if no column is named "to".
var recipientNames = []string{
	"phone", "phoneno", "phonenumber", "number", "recipient", "recipientnumber", "recipientphone", "recipientphonenumber", "tonumber", "tophone", "tophonenumber",
	"mobile", "mobileno", "mobilenumber", "mobilephone", "mobilephonenumber", "cell", "cellno", "cellnumber", "cellphone", "cellphonenumber",
	"tel", "telephone", "telephonenumber", "msisdn",
}

// columns are the columns of a file.
type columns struct {
	names     []string // empty for a column without a name; the last one has a name
	recipient int      // index of the recipients' column
}

// newColumns reads the first row.
func newColumns(header []string) (columns, error) {
	var c columns
	for _, name := range header {
		c.names = append(c.names, pasted.Trim(name))
	}
	for len(c.names) > 0 && c.names[len(c.names)-1] == "" {
		c.names = c.names[:len(c.names)-1]
	}
	if len(c.names) > MaxColumns {
		return c, invalid.Fields{{Name: "columns", Rule: "max_items", Message: fmt.Sprintf("must be at most %d", MaxColumns)}}
	}
	first := map[string]string{}
	for _, name := range c.names {
		key := strings.ToLower(name)
		if other, ok := first[key]; ok && name != "" {
			return c, invalid.Fields{{Name: "columns", Rule: "duplicate", Message: fmt.Sprintf("must have different names: rename one of %.64q and %.64q", other, name)}}
		}
		first[key] = name
	}
	var err error
	c.recipient, err = findRecipient(c.names)
	return c, err
}

// findRecipient returns the index of the recipients' column: the one named "to", in any
// case, or the only one with another name for the recipients.
func findRecipient(names []string) (int, error) {
	var found []int
	for i, name := range names {
		if strings.EqualFold(name, recipientColumn) {
			return i, nil
		}
		if plainName(name) == recipientColumn {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		found = otherRecipients(names)
	}
	switch len(found) {
	case 0:
		return 0, invalid.Fields{{Name: "columns", Rule: "required", Message: `must be named in the first row, and one of them must be "to" or have another name for the recipients, like "Phone" or "Mobile number"`}}
	case 1:
		return found[0], nil
	default:
		return 0, invalid.Fields{{Name: "columns", Rule: "duplicate", Message: fmt.Sprintf(`%.64q and %.64q may both hold the recipients: name the right one "to"`, names[found[0]], names[found[1]])}}
	}
}

// otherRecipients returns the indexes of the columns with one of the recipientNames.
func otherRecipients(names []string) []int {
	var found []int
	for i, name := range names {
		if slices.Contains(recipientNames, plainName(name)) {
			found = append(found, i)
		}
	}
	return found
}

// plainName returns the letters and digits of a name in lower case.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// separators are the separators that findSeparator tries, the usual ones first.
const separators = ",;\t|"

// separatorLine tells Excel the separator. Excel does not show it as a row.
var separatorLine = regexp.MustCompile(`^(?i:"?sep=)([!#-/:-@\[-` + "`" + `{-~\t])"?(?:\r\n|\r|\n|$)`)

// findSeparator returns the separator with which the first row has a column of recipients
// and as many columns as possible.
func findSeparator(t *text) (byte, error) {
	if declared, _, err := t.separatorLine(); err != nil || declared != 0 {
		return declared, err
	}
	best, bestScore := separators[0], 0
	for i := range len(separators) {
		_, header, err := openAt(t, separators[i])
		var malformed MalformedError
		var violations invalid.Fields
		switch {
		case errors.As(err, &malformed), errors.As(err, &violations):
			continue
		case err != nil:
			return 0, err
		}
		score := len(header)
		if _, err := newColumns(header); err == nil {
			score += MaxRow // more than a row can have columns
		}
		if score > bestScore {
			best, bestScore = separators[i], score
		}
	}
	return best, nil
}

// openAt returns the records of the text after the first row, and the first row.
func openAt(t *text, separator byte) (*records, []string, error) {
	_, skipped, err := t.separatorLine()
	if err != nil {
		return nil, nil, err
	}
	in, err := t.open()
	if err != nil {
		return nil, nil, err
	}
	line := 1
	if skipped > 0 {
		if _, err := io.CopyN(io.Discard, in, int64(skipped)); err != nil {
			return nil, nil, fmt.Errorf("reading rows: %w", err)
		}
		line = 2
	}
	r := newRecords(in, separator, line)
	header, err := r.nextFilled()
	if errors.Is(err, io.EOF) {
		err = invalid.Fields{{Name: "rows", Rule: "csv", Message: "must begin with a row that names the columns"}}
	}
	return r, header, err
}
