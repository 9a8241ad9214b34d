package mms

import (
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Keyword is what a reply asks for: no more messages, messages again, or help.
type Keyword string

// The keywords.
const (
	NoKeyword    Keyword = ""
	KeywordStop  Keyword = "stop"
	KeywordStart Keyword = "start"
	KeywordHelp  Keyword = "help"
)

// keywords have a meaning if the reply consists of them. Plivo acts on most of them itself,
// if they are the whole message (Plivo docs, DND service). The FCC requires stop, quit, end,
// revoke, opt out, cancel and unsubscribe (47 CFR 64.1200(a)(10)), and Canada's carriers
// arrêt.
var keywords = map[string]Keyword{
	"stop": KeywordStop, "stopall": KeywordStop, "end": KeywordStop, "quit": KeywordStop, "cancel": KeywordStop, "revoke": KeywordStop,
	"unsubscribe": KeywordStop, "un subscribe": KeywordStop, "unsub": KeywordStop, "optout": KeywordStop, "opt out": KeywordStop, "remove": KeywordStop,
	"arret": KeywordStop, "arrete": KeywordStop, "arretez": KeywordStop, "arreter": KeywordStop,
	"start": KeywordStart, "yes": KeywordStart, "resume": KeywordStart, "unstop": KeywordStart, "go": KeywordStart,
	"help": KeywordHelp, "info": KeywordHelp,
}

// politeWords may accompany any keyword, fillers only one that opts out: "OK, go" or "Yes,
// thank you" may answer another question.
var (
	politeWords = wordSet("please pls plz plse kindly svp")
	fillers     = wordSet("thanks thank you thx ty merci now immediately asap already all ok okay hi hello hey just sir")
)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

// optOutRequest matches a normalized sentence that, as a whole, asks for no more messages.
// docs/decisions/0012-what-opts-out.md gives the reasons for what it includes.
var optOutRequest = func() *regexp.Regexp {
	const (
		lead     = `(?:please|pls|plz|kindly|hey|hi|hello|ok|okay|yes|no|just|i said|i asked you to|you must|(?:can|could|will|would) you|(?:i|we) (?:want|need|wish|would like)(?: you)? to|i ?d like(?: you)? to)`
		polite   = `(?:please|pls|plz|kindly|thanks|thank you|thx|ty|now|immediately|asap|already|all)`
		filler   = `(?:me|us|you|any|all|of|more|these|those|this|that|your|the|such|to|at|on|from|with|my|our|number|phone|cell|list|lists|anymore|again|ever|mailing|marketing|out|off|` + polite + `)`
		never    = `(?:me|us|any|more|these|those|this|your|to|at|my|number|phone|anymore|again|ever|please|pls|plz|thanks|thank you)`
		contact  = `(?:text|texting|txt|txting|message|messaging|msg|contact|contacting|sms|spam|spamming|bother|bothering|harassing)`
		messages = `(?:texts?|txts?|messages?|msgs?|sms|mms|spam|ads?)`
		send     = `(?:send|sending)`
		who      = `me|us|(?:my|this) (?:phone |cell )?number`
		not      = `(?:do not|don ?t)`
	)
	return regexp.MustCompile(`^(?:` + lead + ` )*(?:` + strings.Join([]string{
		`(?:stop(?: it| this| that)?|stopall|unsubscribe|unsub|opt ?out|revoke|leave me alone)(?: ` + polite + `)*`,
		`(?:stop|quit|cease)(?: ` + filler + `)* (?:calling|` + send + `|` + contact + `|` + messages + `)(?: (?:pictures|photos|pics|stuff|` + filler + `|` + messages + `))*`,
		`(?:` + not + `|never)(?: ` + never + `)* (?:` + contact + `|` + send + `(?: ` + never + `)* ` + messages + `)(?: (?:` + never + `|` + messages + `))*`,
		`no more(?: ` + filler + `)* ` + messages + `(?: ` + filler + `)*`,
		`(?:i |we )?(?:` + not + ` want|no longer want)(?: (?:get|receive|` + filler + `))* ` + messages + `(?: ` + filler + `)*`,
		`(?:unsubscribe(?: me| us| from)|remove (?:` + who + `)|opt (?:me|us) out|take (?:` + who + `) off)(?: (?:` + filler + `|` + contact + `|` + messages + `))*`,
	}, "|") + `)$`)
}()

// signature matches the first normalized line of what a mail program or a phone appends.
var signature = regexp.MustCompile(`^(?:--|sent (?:from|via|with|using) |get outlook for |envoye (?:de|depuis|a partir) )`)

// signatureBehind matches what some gateways append to the text's last line.
var signatureBehind = regexp.MustCompile(` (?:sent (?:from|via|with|using)|envoye (?:de|depuis|a partir)) (?:my|mon|ma) [a-z0-9 ]{1,40}$`)

// reaction matches the normalized words with which phones announce a reaction to a message,
// which follows in quotes. The message may say how to opt out.
var reaction = regexp.MustCompile(`^(?:liked|loved|disliked|laughed at|emphasi[sz]ed|questioned|reacted(?: .*)? to|removed an? .* from)$`)

// isReaction reports whether a text is a reaction. People begin texts with the same words:
// only the quote tells the two apart.
func isReaction(text string) bool {
	text = strings.TrimLeftFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
	quote := strings.IndexAny(text, "\"“”„«»")
	return quote > 0 && quote <= maxRequest && reaction.MatchString(words(normalizeReply(text[:quote])))
}

// KeywordIn returns what a reply asks for. Case, punctuation, emoji, invisible characters,
// accents, repetitions and "please" do not matter. An opt-out may also be the first line of
// the reply, or a sentence of it that can mean nothing else. Opting in needs the word alone:
// not sending is the safe choice.
func KeywordIn(text string) Keyword {
	reply := normalizeReply(text)
	if keyword := meaning(words(reply)); keyword != NoKeyword || isReaction(text) {
		return keyword
	}
	if keyword := meaning(signatureBehind.ReplaceAllString(words(reply), "")); keyword != NoKeyword {
		return keyword
	}
	lines := withoutSignature(strings.Split(reply, "\n"))
	if keyword := meaning(words(strings.Join(lines, " "))); keyword != NoKeyword {
		return keyword
	}
	if meaning(words(lines[0])) == KeywordStop {
		return KeywordStop
	}
	for _, line := range lines {
		for sentence := range strings.SplitSeq(line, ".") {
			if asksToStop(words(sentence)) {
				return KeywordStop
			}
		}
	}
	return NoKeyword
}

// maxRequest bounds the sentences that are matched, in bytes, and with it the time for the
// longest reply.
const maxRequest = 200

func asksToStop(sentence string) bool {
	return len(sentence) <= maxRequest && optOutRequest.MatchString(sentence)
}

// normalizeReply reduces a text to lower-case words without accents. Words are separated by
// spaces, sentences by ". " and lines by line feeds. A "--" at the start of a line stays.
func normalizeReply(text string) string {
	// Upper case first, so that letters whose cases do not correspond one to one, like the
	// Turkish dotless i, become the same in either case.
	text = cases.Fold().String(norm.NFKD.String(strings.ToUpper(text)))
	text = strings.Map(simplify, norm.NFKD.String(text))
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		var sentences []string
		if start := strings.TrimLeft(line, " ."); strings.HasPrefix(start, "--") || strings.HasPrefix(start, "—") {
			sentences = append(sentences, "--")
		}
		for sentence := range strings.SplitSeq(line, ".") {
			if sentence = words(sentence); sentence != "" {
				sentences = append(sentences, sentence)
			}
		}
		if len(sentences) > 0 {
			lines = append(lines, strings.Replace(strings.Join(sentences, ". "), "--. ", "-- ", 1))
		}
	}
	return strings.Join(lines, "\n")
}

// simplify maps a rune to itself if it belongs to a word, and otherwise to a line feed, a
// full stop, a dash or a space, or removes it.
func simplify(r rune) rune {
	const removed = -1
	switch {
	case unicode.Is(unicode.Sentence_Terminal, r):
		return '.'
	case strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r):
		return '\n'
	case strings.ContainsRune("'’‘`′ʼ", r):
		return removed
	case unicode.In(r, unicode.M, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point), r != '\t' && unicode.IsControl(r):
		return removed
	case unicode.IsLetter(r), unicode.IsNumber(r):
		return r
	case r == '—', r == '–':
		return '—'
	case r == '-':
		return '-'
	default:
		return ' '
	}
}

// words returns the words of a normalized text, separated by spaces.
func words(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" .-—\n", r) }), " ")
}

// withoutSignature returns the lines before a signature. The first line is never one.
func withoutSignature(lines []string) []string {
	for i, line := range lines {
		if i > 0 && signature.MatchString(line) {
			return lines[:i]
		}
	}
	return lines
}

// meaning returns the keyword of a text of words separated by spaces, if the text says
// nothing else. KeywordStop outweighs other keywords.
func meaning(text string) Keyword {
	if asksToStop(text) {
		return KeywordStop
	}
	list := strings.Fields(spelledOut(text))
	found, filled, mixed := NoKeyword, false, false
	for i := 0; i < len(list); i++ {
		word := list[i]
		if i+1 < len(list) && keywords[word+" "+list[i+1]] != NoKeyword {
			word += " " + list[i+1]
			i++
		}
		keyword := keywords[word]
		switch {
		case politeWords[word]:
		case keyword == NoKeyword && fillers[word]:
			filled = true
		case keyword == NoKeyword:
			return NoKeyword
		case keyword == KeywordStop:
			found = KeywordStop
		case found == NoKeyword:
			found = keyword
		case found != KeywordStop:
			mixed = mixed || keyword != found
		}
	}
	if found != KeywordStop && (filled || mixed) {
		return NoKeyword
	}
	return found
}

// spelledOut joins words of one letter each, as in "S T O P", into one word.
func spelledOut(text string) string {
	list := strings.Fields(text)
	for _, word := range list {
		if len(word) > 1 {
			return text
		}
	}
	return strings.Join(list, "")
}
