package mms

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestKeywordIn(t *testing.T) {
	t.Parallel()
	for want, texts := range map[Keyword][]string{
		KeywordStop: {
			// What Plivo acts on.
			"STOP", "stop", " Stop  \n", "stop all", "STOP\nALL", "STOPALL", "Unsubscribe", "end", "quit", "cancel", "unsub",
			// The other words of the FCC and of Canada.
			"REVOKE", "OPT OUT", "OPTOUT", "opt-out", "Opt–Out", "opt  out.", "UN-SUBSCRIBE", "un subscribe", "ARRET", "ARRÊT", "arrêt", "ARRE\u0302T", "Arrêtez svp",
			// Punctuation, quotes, emoji, invisible characters, other forms of letters.
			"Stop.", "STOP!", "STOP!!!", `"STOP"`, "“Stop”", "'stop'", "«stop»", "(stop)", "[STOP]", "*stop*", "unsubscribe.", "...stop...", "Stop?", "¡Stop!", "stop。",
			"STOP 🛑", "🛑stop🛑✋🏽", "stop \u2764\ufe0f", "ＳＴＯＰ", "ｓｔｏｐ！", "𝐒𝐓𝐎𝐏", "𝗦𝘁𝗼𝗽", "ⓢⓣⓞⓟ", "ＯＰＴ－ＯＵＴ", "S\u0336T\u0336O\u0336P\u0336", "unſub",
			"\u200bSTOP", "ST\u200bOP", "\ufeffstop", "\u202dSTOP\u202c", "stop\u00a0", "s\u00adtop", "\u2067stop\u2069", "stop\u3164", "stop\x00", "S.T.O.P.", "s t o p", "UNSUBSCRİBE", "unsubscrıbe",
			// Repeated, polite, several words.
			"STOP STOP", "stop stop stop!!!", "STOP. STOP.", "STOP\nSTOP", "Stop please", "Please stop", "pls stop", "PLEASE STOP NOW!!", "stop, thanks", "Stop thank you", "OK stop", "just stop", "STOP unsubscribe", "cancel, end, quit", "please cancel", "yes stop", "stop help", "No. Stop.",
			// With a signature, or more text below.
			"Stop\n\nSent from my iPhone", "Stop\n-- \nAnna", "STOP\r\n\r\nSent from Outlook for Android", "Stop\n—\nAnna", "stop\nAnna", "Stop.\nGet Outlook for iOS", "Arrêt\n\nEnvoyé de mon iPhone", "End\n\nSent from my iPhone", "\n\nStop\n\nThanks, Anna", "-- \nSTOP", "Stop please\n--\nAnna", "Stop Sent from my iPhone", "STOP. Sent from my Galaxy S24",
			"I don't want this.\nSTOP", "Wrong number. Stop.", "Who is this? STOP!", "Stop. Who is this?", "Stop! I don't want these messages.",
			// A request in other words.
			"Stop texting me", "please stop texting me!", "STOP TEXTING ME AT THIS NUMBER", "Stop messaging me please", "stop sending me messages", "Stop sending me these pictures", "stop sending these", "stop the texts", "Stop all messages", "stop contacting me", "stop calling me", "quit texting me", "cease contact", "stop it", "Stop this.",
			"Don't text me", "do not text me again", "Dont message this number", "don’t contact me anymore", "never text me again", "Don't send me any more texts", "Do not send messages", "no more texts", "No more messages please", "I don't want your texts", "I no longer want to receive these messages",
			"unsubscribe me", "Please unsubscribe me from this list", "unsubscribe from this list", "remove", "Remove me", "remove me from your list", "remove my number", "take me off your list", "Take my number off the list please", "opt me out", "I want to opt out", "I'd like to unsubscribe", "can you stop texting me?", "Leave me alone", "I said stop", "Loved your pictures. Stop texting me.", "Disliked this.\nSTOP", "Removed my number? Good. Stop.", `Liked it before. STOP "now"`, "Hi. Please take me off your list. Thanks, Anna",
		},
		KeywordStart: {
			"start", "YES", "unstop", "resume", "go", "START.", "Start!", `"start"`, "yes 👍", "ＳＴＡＲＴ", "START START", "start please", "Please resume", "yes please", "st\u200bart", "Start\n\nSent from my iPhone", "Unstop\n-- \nAnna",
		},
		KeywordHelp: {
			"help", "Info", "HELP!", "help?", "info.", "help please", "Help\n\nSent from my iPhone", "ＩＮＦＯ", "help help",
		},
		NoKeyword: {
			"", " ", "...", "🛑", "\u200b", "-- ", "hello", "stopp", "nonstop", "non-stop", "bus stop", "Stop by the shop at 5", "Please stop by at 5", "stop by", "Can you stop by?", "Don't stop", "dont stop!", "Do not stop", "Never stop", "don't cancel", "I can't stop laughing", "stop sign", "the end", "end of story", "weekend", "Cancel my order", "cancel it", "I had to cancel. Sorry!", "Let's end at 5.",
			"Don't text and drive", "Text me", "Why did you stop texting me?", "never mind", "take me", "Take me with you", "remove this", "Don't send the picture", "opt me in", "no more", "I don't want to stop", "How do I stop?", "unsubscribed",
			`Liked “Hello! STOP to opt out. STOP.”`, "Loved “Stop”", "Laughed at “Ha.\nStop.”", "Removed a like from “Stop.”", `Reacted 👍 to "Hi. Stop."`, "\u200bLIKED\u00a0“Stop.”", "Emphasized «Stop.»", "Reply STOP to unsubscribe", "Hello\n\nSent from my iPhone\nStop",
			"yes or no", "Yes, thank you", "ok go", "Yes I will be there at 5", "Yes\nI'll be there", "Yes. See you.", "go home", "start at 5", "Let's go!", "Start\nover", "info desk", "yes help", "S T A R", "help me with my order", "good info",
		},
	} {
		for _, text := range texts {
			if got := KeywordIn(text); got != want {
				t.Errorf("KeywordIn(%q) = %q, want %q (normalized: %q)", text, got, want, normalizeReply(text))
			}
		}
	}
}

func TestNormalizeReply(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         "",
		"Stop by  the shop, at 5!": "stop by the shop at 5",
		"ＳＴＯＰ！！ Who's there?\r\n\n-- \nAnna": "stop. whos there\n--\nanna",
		"-- Anna. B": "-- anna. b",
		"Arrêt":      "arret",
		"…":          "",
	} {
		if got := normalizeReply(text); got != want {
			t.Errorf("normalizeReply(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzKeywordIn(f *testing.F) {
	for _, seed := range []string{"STOP", "Stop by the shop at 5", "Opt–Out.\n-- \nAnna", "ＳＴＯＰ", "ARRE\u0302T", "unsubscrıbe İ", "Start\n\nSent from my iPhone", "Liked “Stop.”", "Loved it. Stop.", "S.T.O.P.", "ß ŉ ǰ ͅ Ω", "don't text me. Yes\x85go"} {
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, text string, at uint8) {
		normalized := normalizeReply(text)
		if again := normalizeReply(normalized); again != normalized {
			t.Errorf("normalizeReply(%q) = %q, and of that %q", text, normalized, again)
		}
		want := KeywordIn(text)
		if !utf8.ValidString(text) {
			return
		}
		runes := []rune(text)
		i := int(at) % (len(runes) + 1)
		for name, variant := range map[string]string{
			"upper case":           strings.ToUpper(text),
			"lower case":           strings.ToLower(text),
			"trailing full stop":   text + ".",
			"trailing exclamation": text + "!?!",
			"trailing dash":        text + " - ",
			"trailing emoji":       text + " 🙂",
			"quotes":               `"` + text + `"`,
			"blanks around":        " \u00a0" + text + "\u3000\n",
			"invisible inside":     string(runes[:i]) + "\u200b\u202c\ufeff" + string(runes[i:]),
		} {
			if got := KeywordIn(variant); got != want {
				t.Errorf("%s: KeywordIn(%q) = %q, want %q, that of %q", name, variant, got, want, text)
			}
		}
	})
}

// BenchmarkKeywordInLongText reads the longest texts that are stored.
func BenchmarkKeywordInLongText(b *testing.B) {
	for name, text := range map[string]string{
		"fillers":   "stop" + strings.Repeat(" me", 3300),
		"sentences": strings.Repeat("stop me. ", 1100),
		"letters":   strings.Repeat("s ", 5000),
		"lines":     strings.Repeat("stop\n", 2000),
		"marks":     "stop" + strings.Repeat("\u0302", 9000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				KeywordIn(text)
			}
		})
	}
}
