package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// readDotenv reads the variables of the file .env in the working directory. It returns
// none if there is no such file. An error names the file and the line and shows no part of
// a value, which may be a secret.
func readDotenv() (map[string]string, error) {
	content, err := os.ReadFile(".env")
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading .env: %w", err)
	}
	vars, lines, err := parseDotenv(string(content))
	if err != nil {
		return nil, fmt.Errorf("reading .env: %w", err)
	}
	if errs := misspelled(lines); errs != nil {
		return nil, fmt.Errorf("reading .env: %w", errors.Join(errs...))
	}
	return vars, nil
}

// misspelled returns an error for each name that is probably meant to be a setting. Other
// unknown names are allowed, since other programs read the same file.
func misspelled(lines map[string]int) []error {
	var errs []error
	for _, found := range Misspelled(lines) {
		errs = append(errs, fmt.Errorf("line %d: %s", lines[found.Name], found))
	}
	return errs
}

var (
	lineEnds   = strings.NewReplacer("\r\n", "\n", "\r", "\n")
	assignment = regexp.MustCompile(`^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*[=:]`)
	afterQuote = regexp.MustCompile(`^[ \t]*(?:#[^\n]*)?(?:\n|$)`)
)

// dotenv is a parser of files like .env. Its rules are those of docker compose, which
// reads the same file, with two exceptions: a $ has no meaning, and what compose would
// silently misread is an error.
type dotenv struct {
	rest string
	line int // at which rest begins
}

// parseDotenv returns the variables, and the line at which each is set.
func parseDotenv(content string) (vars map[string]string, lines map[string]int, err error) {
	if err := checkEncoding(content); err != nil {
		return nil, nil, err
	}
	p := dotenv{rest: lineEnds.Replace(strings.TrimPrefix(content, "\ufeff")), line: 1}
	vars, lines = map[string]string{}, map[string]int{}
	for p.rest != "" {
		line, _, _ := strings.Cut(p.rest, "\n")
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			p.skip(min(len(line)+1, len(p.rest)))
			continue
		}
		begin := p.line
		name, value, err := p.variable()
		if err != nil {
			return nil, nil, err
		}
		if first, ok := lines[name]; ok {
			return nil, nil, fmt.Errorf("line %d sets %s, which line %d sets already: remove one of them", begin, name, first)
		}
		vars[name], lines[name] = value, begin
	}
	return vars, lines, nil
}

func checkEncoding(content string) error {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(content, mark) {
			return errors.New("it is in UTF-16, but must be in UTF-8: save it again (in PowerShell: Set-Content -Encoding utf8)")
		}
	}
	for n, line := range strings.Split(content, "\n") {
		if !utf8.ValidString(line) || strings.Contains(line, "\x00") {
			return fmt.Errorf("line %d is not text in UTF-8: save the file in UTF-8", n+1)
		}
	}
	return nil
}

// skip moves n bytes forward.
func (p *dotenv) skip(n int) {
	p.line += strings.Count(p.rest[:n], "\n")
	p.rest = p.rest[n:]
}

// variable reads NAME=value.
func (p *dotenv) variable() (name, value string, err error) {
	match := assignment.FindStringSubmatch(p.rest)
	if match == nil {
		return "", "", fmt.Errorf("line %d is not of the form NAME=value", p.line)
	}
	p.skip(len(match[0]))
	value, err = p.value(match[1])
	return match[1], value, err
}

func (p *dotenv) value(name string) (string, error) {
	trimmed := strings.TrimLeft(p.rest, " \t")
	blanks := len(p.rest) - len(trimmed)
	if trimmed != "" && (trimmed[0] == '\'' || trimmed[0] == '"') {
		p.skip(blanks)
		return p.quoted(name)
	}
	line, _, _ := strings.Cut(trimmed, "\n")
	if blanks > 0 && strings.HasPrefix(line, "#") {
		// It is a comment for shells and a value for compose.
		return "", fmt.Errorf("line %d: the value of %s begins with #: put a value in single quotes, and a comment on a line of its own", p.line, name)
	}
	p.skip(blanks + len(line))
	for i := range line {
		if line[i] == '#' && i > 0 && (line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	return strings.TrimSpace(line), nil
}

// quoted reads a value in quotes, which may have several lines.
func (p *dotenv) quoted(name string) (string, error) {
	begin, quote := p.line, p.rest[0]
	var value strings.Builder
	for i := 1; i < len(p.rest); i++ {
		char := p.rest[i]
		switch {
		case char == quote:
			p.skip(i + 1)
			end := afterQuote.FindString(p.rest)
			if end == "" && p.rest != "" {
				return "", fmt.Errorf("line %d: the value of %s ends in line %d with a quote that is followed by more text: put the whole value in single quotes, and write \\' for a single quote in it", begin, name, p.line)
			}
			p.skip(len(end))
			return value.String(), nil
		case char == '\\' && i+1 < len(p.rest):
			text, ok := unescape(quote, p.rest[i+1])
			if !ok {
				p.skip(i)
				return "", fmt.Errorf("line %d: in double quotes, a backslash in the value of %s must be written \\\\; or put the value in single quotes", p.line, name)
			}
			if text == "" {
				value.WriteByte('\\')
				continue
			}
			value.WriteString(text)
			i++
		default:
			value.WriteByte(char)
		}
	}
	return "", fmt.Errorf("line %d: the quote at which the value of %s begins is never closed", begin, name)
}

// unescape returns the meaning of a backslash before char: empty if the backslash stands for
// itself. It returns false if the two have no meaning.
func unescape(quote, char byte) (text string, ok bool) {
	if quote == '\'' {
		if char == '\'' {
			return "'", true
		}
		return "", true
	}
	switch char {
	case 'n':
		return "\n", true
	case 'r':
		return "\r", true
	case 't':
		return "\t", true
	case '"', '\\', '$':
		return string(char), true
	}
	return "", false
}
