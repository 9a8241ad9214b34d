package mms

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

// Numbers with country code 1 are those of the North American Numbering Plan: an area
// code, an exchange and a line number, of 3, 3 and 4 digits. The plan says which numbers
// are impossible. New area codes come into use several times a year, so a number that the
// compiled-in list (of the phonenumbers package) does not have only causes a warning.

// parseNorthAmerican returns the number with the given digits after country code 1,
// and its country; empty if the number is not in the compiled-in list.
func parseNorthAmerican(digits string) (n PhoneNumber, country string, err error) {
	if len(digits) != 10 {
		return "", "", fmt.Errorf("has %s: a number in the US or Canada has 10, with its area code, and a number of another country begins with a plus sign", Counted(len(digits), "digit"))
	}
	if err := checkNumberingPlan(digits[:3], digits[3:6]); err != nil {
		return "", "", err
	}
	n = PhoneNumber("+1" + digits)
	return n, phonenumbers.GetRegionCodeForNumber(n.parsed()), nil
}

// checkNumberingPlan returns the violation if no number can have the area code and the
// exchange (NANPA, numbering resources).
func checkNumberingPlan(area, exchange string) error {
	switch {
	case area[0] < '2':
		return fmt.Errorf("is not a valid phone number: no area code begins with %c", area[0])
	case area[1:] == "11":
		return fmt.Errorf("is not a valid phone number: %s is a service code, not an area code", area)
	case area[1] == '9':
		return fmt.Errorf("is not a valid phone number: %s is no area code; none has a 9 in the middle", area)
	case exchange[0] < '2':
		return fmt.Errorf("is not a valid phone number: the three digits after the area code never begin with %c", exchange[0])
	case exchange[1:] == "11" && !slices.Contains(tollFreeAreas, area): // 800-411-7246 is in use
		return fmt.Errorf("is not a valid phone number: the three digits after the area code cannot be %s, which is a service code", exchange)
	}
	return nil
}

// Area codes that belong to no place.
var (
	tollFreeAreas = []string{"800", "833", "844", "855", "866", "877", "888"}
	personalAreas = []string{"500", "521", "522", "523", "524", "525", "526", "527", "528", "529", "533", "544", "566", "577", "588"}
)

// checkReachable returns the violation if the number cannot receive messages because
// of the service that its area code stands for.
func (n PhoneNumber) checkReachable() error {
	switch area := n.area(); {
	case area == "900":
		return errors.New("is a premium-rate number (area code 900), which cannot receive messages")
	case area == "700":
		return errors.New("is a number of the caller's long-distance company (area code 700), which cannot receive messages")
	case area == "710":
		return errors.New("is a number of the US government's emergency service (area code 710), which cannot receive messages")
	case slices.Contains(personalAreas, area):
		return fmt.Errorf("is a personal or machine number (area code %s), which cannot receive messages", area)
	}
	return nil
}

// IsFictional reports whether the number is one of those that are reserved for films
// and examples, like +14155550123, and never belong to anybody.
func (n PhoneNumber) IsFictional() bool {
	return strings.HasPrefix(string(n), "+1") && len(n) == 12 && n[5:10] == "55501" && !slices.Contains(tollFreeAreas, n.area())
}

// Warning says in plain language that the number may not exist; empty if it is known.
func (n PhoneNumber) Warning() string {
	if n.area() == "" || phonenumbers.GetNumberType(n.parsed()) != phonenumbers.UNKNOWN {
		return ""
	}
	return fmt.Sprintf("Check the number %s: Postcard knows no numbers that begin with %s-%s. The area code may be new, or a digit may be wrong.", n.International(), n.area(), n[5:8])
}

// area returns the area code of a number with country code 1; empty for others.
func (n PhoneNumber) area() string {
	if !northAmerican.MatchString(string(n)) {
		return ""
	}
	return string(n[2:5])
}

// parsed returns a number with country code 1 as a number of the phonenumbers package.
func (n PhoneNumber) parsed() *phonenumbers.PhoneNumber {
	var code int32 = 1
	var national uint64
	for _, digit := range n[len("+1"):] {
		national = national*10 + uint64(digit-'0')
	}
	return &phonenumbers.PhoneNumber{CountryCode: &code, NationalNumber: &national}
}

// territories are the US territories with country code 1. Plivo documents MMS only for the
// US and Canada, so an operator must allow them explicitly.
var territories = []string{"AS", "GU", "MP", "PR", "VI"}

// validateCountry returns the violation if a country is not allowed. A number of an
// unknown country is taken for one of the US or Canada with a new area code: other
// countries rarely get one.
func validateCountry(country string, allowed []string) error {
	if slices.Contains(allowed, country) || (country == "" && (slices.Contains(allowed, "US") || slices.Contains(allowed, "CA"))) {
		return nil
	}
	refused := fmt.Errorf("is not in a country that this installation sends picture messages to (%s)%s", strings.Join(allowed, ", "), belongsTo(country))
	if slices.Contains(territories, country) {
		return fmt.Errorf("%w; an operator can add %s to MMS_COUNTRIES", refused, country)
	}
	return refused
}

// belongsTo names the country; empty if it has no name, like that of +800.
func belongsTo(country string) string {
	region, err := language.ParseRegion(country)
	if err != nil || !region.IsCountry() {
		return ""
	}
	return fmt.Sprintf(": it belongs to %s (%s)", display.English.Regions().Name(region), country)
}
