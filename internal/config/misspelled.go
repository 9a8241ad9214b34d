package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// composeOnly are the variables that only docker-compose.yml reads.
var composeOnly = []string{"API_PORT", "POSTGRES_PASSWORD"}

// Misspelling is a variable that is probably meant to be a setting.
type Misspelling struct {
	Name    string
	Setting string // the closest one
}

func (m Misspelling) String() string {
	return fmt.Sprintf("%s is not a setting: did you mean %s?", m.Name, m.Setting)
}

// Misspelled returns the variables, sorted by name, that are not settings but are written
// almost like one that is not set. Other names belong to other programs.
func Misspelled[V any](vars map[string]V) []Misspelling {
	known := settings()
	var found []Misspelling
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if slices.Contains(known, name) || slices.Contains(composeOnly, name) {
			continue
		}
		closest := slices.MinFunc(known, func(a, b string) int { return difference(name, a) - difference(name, b) })
		if _, ok := vars[closest]; ok {
			continue
		}
		if difference(name, closest) <= min(len(letters(closest))/5, 2) { // with more, a short name is another word
			found = append(found, Misspelling{Name: name, Setting: closest})
		}
	}
	return found
}

// settings returns the names of all settings, sorted.
func settings() []string {
	names := map[string]string{}
	for _, c := range []reflect.Type{reflect.TypeFor[API](), reflect.TypeFor[Worker](), reflect.TypeFor[Client]()} {
		for _, variable := range variablesOf(c) {
			names[variable] = variable
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// difference returns how many letters must be inserted, removed, replaced or swapped with
// the next one to make a from b (optimal string alignment), ignoring case and underscores.
func difference(a, b string) int {
	a, b = letters(a), letters(b)
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func letters(name string) string {
	return strings.ReplaceAll(strings.ToUpper(name), "_", "")
}
