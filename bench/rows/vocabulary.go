package rows

import "strings"

// A vocabulary holds words and chooses the first ones more often than the last
// ones: the weight of the i-th word is 1/i, which is Zipf's law with exponent 1.
type vocabulary struct {
	words []string
	pick  [1 << pickBits]uint8
}

const pickBits = 10

// newVocabulary takes up to 256 words, parted by blanks, the most frequent first.
func newVocabulary(list string) *vocabulary {
	v := &vocabulary{words: strings.Fields(list)}
	var total uint64
	for i := range v.words {
		total += 1 << 32 / uint64(i+1)
	}
	// Every word has one place at least, so that rare words do appear.
	spare := uint64(len(v.pick) - len(v.words))
	at := 0
	for i := range v.words {
		places := 1 + (1<<32/uint64(i+1))*spare/total
		for ; places > 0 && at < len(v.pick); places-- {
			v.pick[at] = uint8(i)
			at++
		}
	}
	// What rounding left over goes to words in turn.
	for i := 0; at < len(v.pick); i++ {
		v.pick[at] = uint8(i % len(v.words))
		at++
	}
	return v
}

func (v *vocabulary) word(r *random) string {
	return v.words[v.pick[r.next()>>(64-pickBits)]]
}

const (
	firstNames = `maria james anna wei fatima john olga carlos yuki david sofia ahmed lena pedro
		emma ivan chloe raj nora lucas mei omar julia henrik aisha paul ingrid diego priya
		tom elena kofi hannah marco zoe viktor amara felix rosa jonas leila oscar freya hugo
		nadia simon clara mateo esther kai marta dmitri ines noah tara aleksander gwen bruno
		salma eric petra samuel linh peter`

	lastNames = `smith garcia wang mueller silva kim nguyen ivanov khan rossi johnson tanaka
		kowalski andersson dubois haddad okafor jansen patel novak lopez brown schmidt santos
		nielsen fischer moreau costa yilmaz suzuki petrov lindqvist ferrari horvath mensah
		oconnor dvorak ramirez sato bianchi weber ali popescu martin becker sharma larsen
		papadopoulos murphy vega hoffmann adeyemi zhou keller eriksson morales laurent`

	cities = `london berlin paris tokyo madrid mumbai lagos toronto lisbon prague vienna oslo
		seoul cairo lima hanoi nairobi porto zagreb dublin gdansk leipzig lyon turin bilbao
		osaka accra quito tallinn ghent basel malmo aarhus brno graz cork split tartu`

	countries = `GB DE FR US JP ES IN NG CA PT CZ AT NO KR EG PE VN KE HR IE PL IT GH EC EE BE CH SE DK`

	domains = `example.com mail.example.org example.net post.example.de inbox.example.io web.example.fr
		correo.example.es example.co.jp poczta.example.pl example.in`

	states = `paid shipped delivered pending cancelled returned disputed refunded on_hold draft`

	statuses = `active active_trial invited suspended closed pending_verification locked archived`

	currencies = `EUR USD GBP JPY PLN SEK INR CHF CZK BRL`

	actions = `page_view click search add_to_cart login scroll checkout logout share download
		upload rename delete invite comment export import payment_failed password_reset api_call`

	sections = `products account search orders help blog cart settings reports teams admin billing
		status news about api`

	agents = `Mozilla/5.0(X11;Linux_x86_64)Firefox/128.0 Mozilla/5.0(Windows_NT_10.0)Chrome/126.0
		Mozilla/5.0(iPhone;CPU_iPhone_OS_17_5)Safari/604.1 Mozilla/5.0(Macintosh;Intel_10_15)Chrome/125.0
		okhttp/4.12.0 Go-http-client/2.0 curl/8.8.0 python-requests/2.32.3 PostmanRuntime/7.39.0`

	tags = `new vip newsletter mobile beta wholesale returning partner staff export trial risk
		premium student annual monthly imported migrated gift referral`

	goods = `lamp chair cable desk shelf mug kettle rug clock mirror blanket pillow bottle basket
		notebook speaker keyboard monitor charger backpack jacket boots gloves tent stove
		bicycle helmet paint brush drill ladder hose planter candle frame curtain towel`

	qualities = `black white small large blue wooden steel classic red soft folding green cotton
		heavy light round oak leather compact grey woollen outdoor copper glass`

	prose = `the of to and a in is for with on that not by this be at from has was please order
		as it or we an will after before delivery customer parcel address asked called again
		paid invoice door left number wrong new return two week changed account first when
		next no reply see until only send friday back box which monday gate stock item still
		by phone bell rings old twice second floor office missing part broken replace short
		courier neighbour signed late early morning evening window small large colour size
		exchange refund approved waiting warehouse moved north south label torn printed copy
		contract renewed upgrade discount code expired manual check passed failed support
		ticket opened closed merged duplicate spoke manager agreed exception holiday closed
		August December between mailbox reception building entrance garden behind garage
		careful fragile glass upright dry store cool transfer received partial balance
		remaining instalment reminder sent final notice dispute chargeback bank answer`
)

// vocabularies are all that a Generator chooses from.
type vocabularies struct {
	firstNames, lastNames, cities, countries, domains, states, statuses, currencies,
	actions, sections, agents, tags, goods, qualities, prose *vocabulary
}

func newVocabularies() vocabularies {
	return vocabularies{
		firstNames: newVocabulary(firstNames),
		lastNames:  newVocabulary(lastNames),
		cities:     newVocabulary(cities),
		countries:  newVocabulary(countries),
		domains:    newVocabulary(domains),
		states:     newVocabulary(states),
		statuses:   newVocabulary(statuses),
		currencies: newVocabulary(currencies),
		actions:    newVocabulary(actions),
		sections:   newVocabulary(sections),
		agents:     newVocabulary(agents),
		tags:       newVocabulary(tags),
		goods:      newVocabulary(goods),
		qualities:  newVocabulary(qualities),
		prose:      newVocabulary(prose),
	}
}
