import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { isRungError } from '../../src/kernel/errors.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { typosBetween } from '../../src/kernel/typos.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'
import type { SearchStore } from '../../src/primitives/search/contract.ts'
import {
  defineIndex,
  type Index,
  type Indexing,
  indexingIn,
  type Language,
  type Search,
  type SearchDocument,
  searchFor,
} from '../../src/primitives/search/search.ts'

export interface SearchUnderTest {
  store: SearchStore
  database: Database
  close(): Promise<void>
}

type Tx = SqlTag & Indexing

/** Words and the like, each once in capitals, ligatures or full width where its script has them. */
const wordsOfScripts = [
  ...[
    'Straße',
    'STRASSEN',
    'ẞondern',
    'ﬁnden',
    'oﬃce',
    'Ｒｕｎｇ',
    'café',
    'Noe\u0308l',
    'Ærø',
    'Łódź',
    'İstanbul',
    'Diyarbakır',
  ],
  ...[
    'Tiếng',
    'ǰan',
    'ſoft',
    'Donau\u00addampfer',
    'ΟΔΟΣ',
    'λόγος',
    'Ὀδυσσεύς',
    'Привет',
    'ёлка',
    'Україна',
    'Հայերեն',
    'ქართული',
  ],
  ...['עברית', 'العربية', 'فارسی', 'اردو', 'हिन्दी', 'বাংলা', 'ਪੰਜਾਬੀ', 'ગુજરાતી', 'தமிழ்', 'తెలుగు', 'ಕನ್ನಡ', 'മലയാളം', 'සිංහල'],
  ...[
    'አማርኛ',
    'ᏣᎳᎩ',
    'монгол',
    '東京',
    '漢字',
    '数据库',
    'ひらがな',
    'カタカナ',
    'ｶﾞﾗｽ',
    'ーン',
    '한국어',
    '학교',
    'ไทย',
    'น้ำ',
    'ລາວ',
    'ខ្មែរ',
    'မြန်မာ',
  ],
  ...[
    '👍🏽',
    '👩‍💻',
    '🇯🇵',
    '❤️',
    '1️⃣',
    '🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}',
    'x²',
    '東京2020',
    'Rungを使う',
  ],
]

/** ASCII in full width. */
function wide(text: string): string {
  return text.replace(/[!-~]/g, (one) => String.fromCharCode(one.charCodeAt(0) + 0xfee0))
}

/** What every adapter of the search contract keeps. `open` gives one on a fresh database. */
export function searchContract(name: string, open: () => Promise<SearchUnderTest>): void {
  describe(`search contract: ${name}`, () => {
    let under: SearchUnderTest
    let data: Data<Tx>
    let search: Search
    before(async () => {
      under = await open()
      data = createData<Tx>(under.database, { extend: (riding) => indexingIn(riding, under.store) }).forModule('m')
      search = searchFor('m', under.store)
    })
    after(() => under.close())

    /** An index of its own for each test. */
    function fresh(language: Language = 'english') {
      const index = defineIndex(`i-${randomUUID()}`, {
        language,
        fields: { title: { weight: 'A' }, body: {} },
        facets: ['tag', 'author'],
      })
      return {
        index,
        put: (documents: Record<string, SearchDocument<'title' | 'body', 'tag' | 'author'>>) =>
          data.write((tx) => {
            for (const [id, document] of Object.entries(documents)) tx.index(index, id, document)
          }),
        ids: async (text: string, more: { prefix?: boolean; limit?: number; offset?: number } = {}) =>
          (await search.find(index, { text, ...more })).hits.map(({ id }) => id),
      }
    }

    it('finds a document after the commit, and none of a transaction that failed', async () => {
      const { index, put, ids } = fresh()
      assert.deepEqual(await ids('lighthouse'), [], 'an index that nothing was ever put into')
      const failed = data.write(async (tx) => {
        tx.index(index, 1, { title: 'A lighthouse' })
        throw new Error('no')
      })
      await assert.rejects(failed, /no/)
      assert.deepEqual(await ids('lighthouse'), [])
      await data.write(async (tx) => {
        tx.index(index, 1, { title: 'A lighthouse' })
        assert.deepEqual(await ids('lighthouse'), [], 'seen before its commit')
      })
      assert.deepEqual(await ids('lighthouse'), ['1'])
      await put({ 1: { title: 'A harbour' } })
      assert.deepEqual(await ids('lighthouse'), [])
      assert.deepEqual(await ids('harbour'), ['1'])
      await data.write((tx) => {
        tx.index(index, 1, { title: 'A bridge' })
        tx.unindex(index, 1)
        tx.unindex(index, 2)
        tx.index(index, 2, { title: 'A bridge' })
      })
      assert.deepEqual(await ids('harbour bridge'), [])
      assert.deepEqual(await ids('bridge'), ['2'], 'the last change of a document counts')
    })

    it('keeps modules and indexes apart', async () => {
      const [one, two] = [fresh(), fresh()]
      await one.put({ 1: { title: 'apples' } })
      assert.deepEqual(await two.ids('apples'), [])
      assert.deepEqual((await searchFor('other', under.store).find(one.index, { text: 'apples' })).hits, [])
    })

    it('lets many write the same words at once', async () => {
      const { index, ids } = fresh()
      const words = Array.from(
        { length: 60 },
        (_, n) => `word${String.fromCharCode(97 + (n % 26), 97 + Math.floor(n / 26))}`,
      )
      await Promise.all(
        Array.from({ length: 40 }, (_, n) =>
          data.write(
            (tx) => {
              const random = seededRandom(n)
              const shuffled = [...words].sort(() => random() - 0.5).join(' ')
              for (const id of [`a${(n * 7) % 40}`, `b${n % 5}`]) tx.index(index, id, { body: shuffled })
            },
            { retries: 0 },
          ),
        ),
      )
      assert.equal((await ids('wordaa wordba', { limit: 100 })).length, 45)
    })

    it('ranks a title above a body, many above few, a short text above a long one, and equal ones by id', async () => {
      const { put, ids } = fresh()
      const filler = Array.from({ length: 200 }, (_, n) => `filler${n}`).join(' ')
      await put({
        body: { title: 'Fruit', body: 'an orange and other things' },
        title: { title: 'An orange', body: 'and other things' },
        often: { title: 'Fruit', body: 'an orange, an orange, an orange' },
        long: { title: 'Fruit', body: `an orange ${filler}` },
        z: { title: 'Fruit', body: 'a lemon' },
        y: { title: 'Fruit', body: 'a lemon' },
      })
      assert.deepEqual(await ids('orange'), ['title', 'often', 'body', 'long'])
      assert.deepEqual(await ids('lemon'), ['y', 'z'])
      assert.deepEqual(await ids('orange', { limit: 2, offset: 1 }), ['often', 'body'])
    })

    it('stems words in the language of the index', async () => {
      const [english, german] = [fresh('english'), fresh('german')]
      await english.put({ 1: { title: 'Running quickly' } })
      await german.put({ 1: { title: 'Die Häuser am Fluss' } })
      assert.deepEqual(await english.ids('runs'), ['1'])
      assert.deepEqual(await german.ids('haus'), ['1'])
      assert.deepEqual(await german.ids('Häusern'), ['1'])
      assert.deepEqual(await english.ids('the'), [], 'a word too common to count')
    })

    it('finds the beginning of the last word only when asked', async () => {
      const { put, ids } = fresh()
      await put({
        1: { title: 'Software development' },
        2: { title: 'Devices for software' },
        3: { title: 'Hardware' },
      })
      assert.deepEqual(await ids('software dev', { prefix: true }), ['1', '2'])
      assert.deepEqual(await ids('software developm', { prefix: true }), ['1'])
      assert.deepEqual(await ids('software deve'), [])
      assert.deepEqual(await ids('sof dev', { prefix: true }), [], 'only the last')
    })

    it('knows phrases and minus', async () => {
      const { put, ids } = fresh()
      await put({ 1: { body: 'a red brick house' }, 2: { body: 'a house of red brick' }, 3: { body: 'a red house' } })
      assert.deepEqual(await ids('"red house"'), ['3'])
      assert.deepEqual(await ids('red -brick'), ['3'])
      assert.deepEqual(await ids('house -"red brick"'), ['3'])
      assert.deepEqual((await ids('"red brick" house')).sort(), ['1', '2'])
      assert.deepEqual(await ids('-house'), [])
      await put({ 4: { body: 'To be, or not to be: that is the question, whether tis nobler in the mind to suffer' } })
      assert.deepEqual(await ids('"to be or not to be that is the question whether"'), ['4'])
      assert.deepEqual(await ids('"that is the question whether tis nobler in a mind to suffer"'), ['4'])
      assert.deepEqual(await ids('"that is the question whether tis nobler in the body to suffer"'), [])
    })

    it('finds at least nine of ten words with one typo, and says what it looked for', async () => {
      const { index, put } = fresh()
      const words =
        'lighthouse harbour mountain bridge valley garden kitchen window mirror candle thunder lightning island forest desert ocean river castle village market library museum station airport hospital'.split(
          ' ',
        )
      await put(Object.fromEntries(words.map((word) => [word, { title: `The ${word}`, body: 'somewhere' }])))
      const random = seededRandom(5)
      let found = 0
      for (let n = 0; n < 100; n += 1) {
        const word = words[n % words.length]!
        const at = Math.floor(random() * (word.length - 1))
        const typed = [
          word.slice(0, at) + word[at + 1] + word[at] + word.slice(at + 2),
          word.slice(0, at) + word.slice(at + 1),
          `${word.slice(0, at)}x${word.slice(at + 1)}`,
          `${word.slice(0, at)}x${word.slice(at)}`,
        ][n % 4]!
        const { hits, corrected } = await search.find(index, { text: `somewhere ${typed}` })
        if (typed === word || (hits[0]?.id === word && corrected === `somewhere ${word}`)) found += 1
      }
      assert.ok(found >= 90, `${found} of 100`)
      const exact = await search.find(index, { text: 'bridge' })
      assert.equal(exact.corrected, undefined)
      assert.equal(exact.typoTolerance, true)
      assert.deepEqual((await search.find(index, { text: 'xylophonist' })).hits, [])
    })

    it('counts facets of what matches, with filters', async () => {
      const { index, put } = fresh()
      const random = seededRandom(3)
      const documents = Array.from({ length: 300 }, (_, n) => ({
        id: String(n),
        title: ['apple', 'pear', 'apple pear'][Math.floor(random() * 3)]!,
        tag: ['x', 'y', "it's = \\ {odd}", 'z'].filter(() => random() < 0.5),
        author: `a${Math.floor(random() * 3)}`,
      }))
      await put(Object.fromEntries(documents.map(({ id, ...rest }) => [id, rest])))
      const asked = { text: 'apple', facets: ['tag', 'author'], limit: 100 } as const
      for (const filters of [
        {},
        { tag: ['x'] },
        { tag: ['x', "it's = \\ {odd}"], author: ['a1'] },
        { tag: ['none'] },
        { tag: [] },
      ]) {
        const matching = documents.filter(
          ({ title, tag, author }) =>
            title.includes('apple') &&
            (!filters.tag || tag.some((one) => (filters.tag as string[]).includes(one))) &&
            (!('author' in filters) || filters.author!.includes(author)),
        )
        const result = await search.find(index, { ...asked, filters })
        assert.deepEqual([result.total, result.totalIs, result.facetsAre], [matching.length, 'exact', 'exact'])
        for (const facet of asked.facets) {
          const counts = new Map<string, number>()
          for (const one of matching.flatMap((document) => document[facet])) counts.set(one, (counts.get(one) ?? 0) + 1)
          assert.deepEqual(new Map(result.facets[facet]!.map(({ value, count }) => [value, count])), counts)
        }
      }
      await assert.rejects(search.find(index as unknown as Index, { text: 'apple', facets: ['colour'] }), (error) =>
        isRungError(error, 'SEARCH_INVALID'),
      )
    })

    it('marks what was found in HTML that is safe', async () => {
      const { index, put } = fresh()
      await put({
        1: {
          title: 'Dogs & <script>alert("dogs")</script>',
          body: "\u0001dogs\u0002 <img src=x onerror=alert(1)> 'dog'",
        },
      })
      const { hits } = await search.find(index, { text: 'dog', highlight: ['title', 'body'] })
      const { title, body } = hits[0]!.highlights
      assert.equal(title, '<mark>Dogs</mark> &amp; &lt;script&gt;alert(&quot;<mark>dogs</mark>&quot;)&lt;/script&gt;')
      assert.equal(body!.replaceAll(/<\/?mark>/g, '').match(/[<>"']/), null)
      assert.match(body!, /<mark>dogs<\/mark> +&lt;img/)
    })

    it('takes any text', async () => {
      const { index, put, ids } = fresh('simple')
      await put({
        ünï: { title: 'Ünïcödé 💥 東京 Привет', body: '\0 \ud800 \u0007', tag: ['\0', '💥'] },
        long: { title: 'x'.repeat(300_000), body: Array.from({ length: 60_000 }, (_, n) => `w-${n}-v`).join(' ') },
        nothing: { title: null },
      })
      assert.deepEqual(await ids('ÜNÏCÖDÉ'), ['ünï'])
      assert.deepEqual(await ids('привет'), ['ünï'])
      const special = [
        '\0',
        '"',
        "'",
        '\\',
        '-',
        '&',
        '|',
        '!',
        '(',
        ')',
        ':*',
        '<->',
        '*',
        '%',
        ' ',
        '\ud800',
        'ünïcödé',
        'a',
      ]
      const text = fc.oneof(
        fc.string({ unit: 'binary', maxLength: 200 }),
        fc.array(fc.constantFrom(...special), { maxLength: 60 }).map((parts) => parts.join('')),
        fc.constantFrom('x'.repeat(10_000), '"'.repeat(10_000), 'a -'.repeat(4_000), '('.repeat(9_999)),
      )
      await fc.assert(
        fc.asyncProperty(text, fc.boolean(), text, async (typed, prefix, filter) => {
          const asked = { text: typed, prefix, facets: ['tag'], highlight: ['title'] } as const
          await search.find(index, asked)
          await search.find(index, { ...asked, filters: { tag: [filter] } })
        }),
        { numRuns: 150 },
      )
    })

    it('takes texts that are made to be slow to take apart', async () => {
      const { put, ids } = fresh()
      // With a time that grows with the square of the length, the first would take minutes, and the time limit of statements would end it.
      const pieces = [
        '_a',
        '<!--',
        '<!-- ',
        'a-',
        'a.',
        '@a',
        'a@a.',
        'http://',
        '<a ',
        '&x',
        '1e-1',
        'a',
        '日本',
        '🙂',
        "a'",
        '~/a',
      ]
      for (const [at, piece] of pieces.entries()) {
        const body = `lighthouse${at} ${piece.repeat(100_000 / piece.length)}`
        await put({ [at]: { title: 'Slow', body } })
        assert.deepEqual(await ids(`lighthouse${at}`), [String(at)], piece)
        assert.ok((await ids(piece.repeat(500))).length <= pieces.length)
      }
    })

    it('finds a word of any script, in any of its forms, and marks it as it was written', async () => {
      const { index, put } = fresh('simple')
      await put(Object.fromEntries(wordsOfScripts.map((word, at) => [at, { body: `(1) ${word}. <b>` }])))
      for (const [at, word] of wordsOfScripts.entries()) {
        for (const typed of new Set([
          ...[word, word.toUpperCase(), word.toLowerCase(), word.normalize('NFD'), word.normalize('NFC')],
          ...[
            word.normalize('NFKC'),
            word.normalize('NFKD'),
            ...(/\p{RGI_Emoji}/v.test(word) ? [] : [wide(word)]),
            `"${word}"`,
            `＂${word}＂`,
          ],
        ])) {
          const { hits } = await search.find(index, { text: typed, highlight: ['body'] })
          const hit = hits.find(({ id }) => id === String(at))
          assert.equal(hit?.highlights.body, `(1) <mark>${word}</mark>. &lt;b&gt;`, `${word} by ${typed}`)
        }
        const without = await search.find(index, { text: `1 -${word}`, limit: 100 })
        assert.ok(without.hits.length > 0)
        assert.ok(!without.hits.some(({ id }) => id === String(at)), `${word} excluded`)
      }
    })

    it('finds parts of texts without spaces where they stand together, and only there', async () => {
      const { index, put, ids } = fresh()
      const texts = {
        mixed: 'Rungを使う人は東京2020年に',
        tokyo: '東京都は日本の首都です。',
        scattered: '都内と東の京、本日は首尾よく',
        korean: '우리는 학교에서 공부했습니다',
        chinese: '我们在北京大学学习数据库',
        thai: 'ฉันเรียนภาษาไทยที่โรงเรียน',
        lao: 'ຂ້ອຍຮຽນພາສາລາວ',
        khmer: 'ខ្ញុំរៀនភាសាខ្មែរ',
        burmese: 'ကျွန်တော်မြန်မာစာလေ့လာသည်',
        half: 'ｶﾞﾗｽのﾃｰﾌﾞﾙ',
        company: '㍿東芝',
      }
      await put(Object.fromEntries(Object.entries(texts).map(([id, body]) => [id, { body }])))
      const expected: Record<string, string[]> = {
        東京: ['mixed', 'tokyo'],
        東京都: ['tokyo'],
        日本の首都: ['tokyo'],
        京: ['chinese', 'mixed', 'scattered', 'tokyo'],
        都: ['scattered', 'tokyo'],
        '東京 -都': ['mixed'],
        '使う -東京': [],
        '都 -"東京"': ['scattered'],
        '"東京" 首都': ['tokyo'],
        'rung 東京': ['mixed'],
        rung: ['mixed'],
        RUNGを使う: ['mixed'],
        Ｒｕｎｇを: ['mixed'],
        を使う: ['mixed'],
        東京2020: ['mixed'],
        '2020': ['mixed'],
        '2020年': ['mixed'],
        京2020年に: ['mixed'],
        東京2021: [],
        都東京: [],
        '"東京都 日本"': [],
        学校: [],
        학교: ['korean'],
        학교에서: ['korean'],
        '학교 공부': ['korean'],
        교학: [],
        [`학교`.normalize('NFD')]: ['korean'],
        北京大学: ['chinese'],
        京大学学: ['chinese'],
        数据库: ['chinese'],
        数库: [],
        ภาษาไทย: ['thai'],
        โรงเรียน: ['thai'],
        เรียนไทย: [],
        ພາສາ: ['lao'],
        ភាសា: ['khmer'],
        မြန်မာ: ['burmese'],
        ガラス: ['half'],
        テーブル: ['half'],
        株式会社: ['company'],
        会社東芝: ['company'],
      }
      for (const [text, found] of Object.entries(expected)) {
        assert.deepEqual((await ids(text)).sort(), found, text)
        assert.deepEqual((await ids(text, { prefix: true })).sort(), found, `${text} while somebody types`)
      }
      const marked = async (text: string, id: string) =>
        (await search.find(index, { text, highlight: ['body'] })).hits.find((hit) => hit.id === id)?.highlights.body
      assert.equal(await marked('東京都', 'tokyo'), '<mark>東京都</mark>は日本の首都です。')
      assert.equal(await marked('都', 'tokyo'), '東京<mark>都</mark>は日本の首<mark>都</mark>です。')
      assert.equal(await marked('使う', 'mixed'), 'Rungを<mark>使う</mark>人は東京2020年に')
      assert.equal(await marked('東京2020', 'mixed'), 'Rungを使う人は<mark>東京2020</mark>年に')
      assert.equal(await marked('학교', 'korean'), '우리는 <mark>학교</mark>에서 공부했습니다')
      assert.equal(await marked('ガラス', 'half'), '<mark>ｶﾞﾗｽ</mark>のﾃｰﾌﾞﾙ')
    })

    it('takes an emoji for a word', async () => {
      const { put, ids } = fresh()
      await put({
        1: { body: 'shipped👍🏽today' },
        2: { body: 'on call 👩‍💻 in 🇩🇪🇫🇷' },
        3: { body: 'with ❤️, 1️⃣ and 👩💻' },
        4: { body: '東京🗼' },
      })
      const expected: Record<string, string[]> = {
        '👍🏽': ['1'],
        '👍🏿': [],
        '👍': [],
        'shipped -👍🏽': [],
        '👩‍💻': ['2'],
        '👩': ['3'],
        '🇩🇪': ['2'],
        '🇪🇫': [],
        '🇩🇪🇫🇷': ['2'],
        '❤': ['3'],
        '❤️': ['3'],
        '1️⃣': ['3'],
        '東京🗼': ['4'],
        '🗼 東京': ['4'],
        today: ['1'],
      }
      for (const [text, found] of Object.entries(expected)) assert.deepEqual(await ids(text), found, text)
    })

    it('marks what was found in a long text of any script', async () => {
      const { index, put } = fresh('german')
      const body = `${'Ein Satz mit Ärger & <Übel>. '.repeat(200)}Die Straßen 🚀 von 東京都 sind „schön“. ${'Noch ein Satz über alles. '.repeat(100)}`
      await put({
        1: { title: '日本語の記事。'.repeat(100).concat('データベース入門。', '日本語の記事。'.repeat(100)), body },
      })
      const highlights = async (text: string) =>
        (await search.find(index, { text, highlight: ['title', 'body'] })).hits[0]!.highlights
      assert.match((await highlights('STRASSE')).body!, /<mark>Straßen<\/mark> 🚀 von 東京都 sind „schön“\./)
      assert.match((await highlights('🚀')).body!, /<mark>🚀<\/mark> von 東京都/)
      assert.match((await highlights('京都')).body!, /東?<mark>京都<\/mark> sind/)
      assert.match((await highlights('übel')).body!, /&amp; &lt;<mark>Übel<\/mark>&gt;\./)
      const { title } = await highlights('データベース')
      assert.match(title!, /^[^<]{0,60}<mark>データベース<\/mark>[^<]{10,60}$/)
    })

    it('finds a word of eight letters with any two typos, of four with any one, also as the beginning of one', async () => {
      const { index, put } = fresh()
      const random = seededRandom(7)
      const letters = 'abcdefghijklmnopqrstuvwxyz'
      const noise = Array.from({ length: 3_000 }, () =>
        Array.from({ length: 4 + Math.floor(random() * 6) }, () => letters[Math.floor(random() * 26)]).join(''),
      )
      const words = [
        'saxophone',
        'database',
        'elephant',
        'keyboard',
        'lighthouse',
        'cake',
        'river',
        'bridge',
        'kitchen',
      ]
      await put(Object.fromEntries(words.map((word) => [word, { title: word }])))
      await put({ noise: { body: noise.join(' ') } })
      const at = (word: string, least = 0) => least + Math.floor(random() * (word.length - least))
      const typo = (word: string): string => {
        const place = at(word)
        const letter = letters[Math.floor(random() * 26)]!
        return [
          word.slice(0, place) + word.slice(place + 1),
          word.slice(0, place) + letter + word.slice(place),
          word.slice(0, place) + letter + word.slice(place + 1),
          word.slice(0, place) + (word[place + 1] ?? '') + word[place] + word.slice(place + 2),
        ][Math.floor(random() * 4)]!
      }
      const missed: string[] = []
      let tried = 0
      for (let n = 0; n < 300; n += 1) {
        const word = words[n % words.length]!
        const typed =
          n < words.length * 2 && word === 'saxophone' ? 'saxofone' : word.length < 8 ? typo(word) : typo(typo(word))
        // What is shorter than the limit may have fewer typos.
        if (
          noise.includes(typed) ||
          words.includes(typed) ||
          typed.length < 4 ||
          (word.length >= 8 && typed.length < 8)
        )
          continue
        const typos = (one: string) => typosBetween(typed, one, 2)
        if (noise.some((one) => typos(one) <= typos(word))) continue
        tried += 1
        const prefix = n % 2 === 1
        const { hits, corrected } = await search.find(index, { text: typed, prefix })
        // What has the stem of the word is no typo to the index.
        if (hits[0]?.id !== word || (corrected ?? word) !== word) missed.push(`${word} by ${typed}`)
      }
      assert.ok(tried > 150, String(tried))
      assert.deepEqual(missed, [])
      await put({ other: { title: 'हिन्दी पुस्तकालय Великобритания' } })
      assert.equal((await search.find(index, { text: 'पुस्तकलय' })).corrected, 'पुस्तकालय')
      assert.equal((await search.find(index, { text: 'ВЕЛЕКОБРЕТАНИЯ' })).corrected, 'великобритания')
      assert.equal((await search.find(index, { text: 'saxofone' })).corrected, 'saxophone')
      assert.equal((await search.find(index, { text: 'Saxofone', prefix: true })).corrected, 'saxophone')
      assert.equal((await search.find(index, { text: 'saxo', prefix: true })).corrected, undefined)
    })

    it('tells no correction that finds nothing', async () => {
      const { index, put } = fresh()
      await put({
        1: { title: 'harbour', tag: 'sea' },
        2: { title: 'harvest' },
        3: { title: 'lighthouse' },
        4: { title: 'bravely old' },
        5: { title: 'bravery' },
        6: { title: 'bravery' },
      })
      const find = async (text: string, filters = {}) => {
        const { hits, corrected } = await search.find(index, { text, filters })
        return [hits.map(({ id }) => id), corrected]
      }
      assert.deepEqual(await find('harbuor'), [['1'], 'harbour'])
      assert.deepEqual(await find('harbuor lighthouse'), [[], undefined])
      assert.deepEqual(await find('harbuor -harbour'), [[], undefined])
      assert.deepEqual(await find('harbuor', { tag: ['land'] }), [[], undefined])
      assert.deepEqual(await find('harbuor', { tag: ['sea'] }), [['1'], 'harbour'])
      // As near as the commoner one, which stands in no document with the other word.
      assert.deepEqual(await find('braveay old'), [['4'], 'bravely old'])
    })

    it('takes long texts of any script, and finds their words to the end', async () => {
      const { put, ids } = fresh()
      const han = (n: number) => String.fromCodePoint(0x4e00 + (n % 20_000))
      const texts = {
        all: Array.from({ length: 66_000 }, (_, n) => han(n * 7_919)).join(''),
        plain: `${'日本の首都は東京です。'.repeat(5_500)}図書館`,
        rare: Array.from({ length: 50_000 }, (_, n) => String.fromCodePoint(0x20000 + ((n * 7_919) % 42_000))).join(''),
        emoji: Array.from({ length: 50_000 }, (_, n) => String.fromCodePoint(0x1f300 + (n % 700))).join(''),
        thai: 'ภาษาไทย'.repeat(9_000),
        hyphens: Array.from({ length: 9_000 }, (_, n) => `é${n.toString(36)}ä-ö${(n * 7).toString(36)}ü`).join(' '),
        ligature: 'ﷺ'.repeat(66_000),
        marks: `東${'\u0301'.repeat(90_000)}`,
        family: '👩\u200d'.repeat(28_000),
      }
      for (const [id, body] of Object.entries(texts)) await put({ [id]: { title: `kept ${id}`, body } })
      assert.deepEqual((await ids('kept')).sort(), Object.keys(texts).sort())
      for (const [text, id] of [
        [texts.all.slice(0, 40), 'all'],
        ['首都は東京', 'plain'],
        ['図書', 'plain'],
        ['館', 'plain'],
        [texts.rare.slice(0, 10), 'rare'],
        ['ภาษาไทย', 'thai'],
      ] as const)
        assert.ok((await ids(text)).includes(id), id)
    })

    it('bounds its work where most documents match, and says so', async () => {
      const { index, put } = fresh()
      for (let n = 0; n < 3_000; n += 500) {
        const documents = Array.from({ length: 500 }, (_, at) => [
          String(n + at),
          {
            title: (n + at) % 600 === 0 ? 'common' : 'other',
            body: 'common words',
            tag: (n + at) % 2 ? 'odd' : 'even',
          },
        ])
        await put(Object.fromEntries(documents))
      }
      const { hits, total, totalIs, facets, facetsAre } = await search.find(index, {
        text: 'common words',
        facets: ['tag'],
      })
      assert.equal(hits.length, 20)
      assert.ok(total >= 100 && total <= 3_000, String(total))
      assert.deepEqual([totalIs, facetsAre], ['at least', 'estimated'])
      for (const { value, count } of facets.tag!) assert.ok(count > 300 && count < 4_000, `${value} ${count}`)
      const titles = await search.find(index, { text: 'common' })
      assert.deepEqual(new Set(titles.hits.slice(0, 5).map(({ id }) => Number(id) % 600)), new Set([0]), 'titles first')
    })

    it('rebuilds while it is read and written; afterwards the index is the truth', async () => {
      const { index, put, ids } = fresh()
      const truth = new Map<string, string>()
      for (let n = 0; n < 300; n += 1) truth.set(`d${n}`, 'first')
      await put({ stale: { title: 'stale' } })
      const random = seededRandom(9)
      let done = false
      let changed = 0
      async function writer(): Promise<void> {
        for (; !done; changed += 1) {
          const id = `d${Math.floor(random() * 400)}`
          await data.write((tx) => {
            if (random() < 0.4) {
              truth.delete(id)
              tx.unindex(index, id)
            } else {
              truth.set(id, `version${changed % 7}`)
              tx.index(index, id, { title: truth.get(id) ?? null })
            }
          })
          assert.deepEqual(await ids('stale'), ['stale'], 'the old generation is read until the end')
        }
      }
      let writing: Promise<void> | undefined
      await search.rebuild(index, async function* () {
        const rows = [...truth].map(([id, title]) => ({ id, document: { title } }))
        writing = writer()
        // Late: what is given here is older than what was written meanwhile.
        for (let at = 0; at < rows.length; at += 20) {
          const before: number = changed
          while (changed < before + 3) await new Promise(setImmediate)
          yield rows.slice(at, at + 20)
        }
        done = true
        await writing
      })
      await writing
      assert.ok(changed > 30)
      const found = new Map<string, string>()
      for (const title of ['first', ...Array.from({ length: 7 }, (_, n) => `version${n}`), 'stale']) {
        for (const offset of [0, 100, 200, 300]) {
          for (const id of await ids(title, { limit: 100, offset })) found.set(id, title)
        }
      }
      assert.deepEqual([...found].sort(), [...truth].sort())
    })

    it('clears away what a killed rebuild left, and refuses a second one', async () => {
      const { index, put, ids } = fresh()
      await put({ 1: { title: 'old' } })
      const key = { module: 'm', name: index.name, language: index.language }
      const running = await under.store.rebuild(key)
      await assert.rejects(under.store.rebuild(key), (error) => isRungError(error, 'SEARCH_REBUILDING'))
      await running.abandon()
      const failing = search.rebuild(index, async function* () {
        yield [{ id: 9, document: { title: 'new' } }]
        throw new Error('the source failed')
      })
      await assert.rejects(failing, /the source failed/)
      assert.deepEqual([await ids('old'), await ids('new')], [['1'], []])
      const count = await search.rebuild(index, async function* () {
        yield [
          { id: 2, document: { title: 'new' } },
          { id: 2, document: { title: 'newest' } },
        ]
      })
      assert.equal(count, 1)
      assert.deepEqual([await ids('old'), await ids('newest')], [[], ['2']])
    })
  })
}
