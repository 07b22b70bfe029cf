import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isTimeZone, localTime, nextAt } from '../../examples/conduit/notifications/local-time.ts'

const next = (hour: number, timeZone: string, after: string) => nextAt(hour, timeZone, new Date(after)).toISOString()

describe('the hour of a digest', () => {
  it('is that of the place', () => {
    assert.equal(next(7, 'UTC', '2026-01-10T06:59:59Z'), '2026-01-10T07:00:00.000Z')
    assert.equal(next(7, 'Europe/Berlin', '2026-01-10T05:00:00Z'), '2026-01-10T06:00:00.000Z')
    assert.equal(next(7, 'America/New_York', '2026-07-10T05:00:00Z'), '2026-07-10T11:00:00.000Z')
    assert.equal(next(0, 'Pacific/Kiritimati', '2026-07-10T05:00:00Z'), '2026-07-10T10:00:00.000Z')
    assert.equal(next(6, 'Asia/Kathmandu', '2026-07-10T05:00:00Z'), '2026-07-11T00:15:00.000Z')
  })
  it('comes once a day: after it, that of the next day', () => {
    assert.equal(next(7, 'UTC', '2026-01-10T07:00:00Z'), '2026-01-11T07:00:00.000Z')
    assert.equal(next(7, 'UTC', '2026-01-10T23:59:00Z'), '2026-01-11T07:00:00.000Z')
    assert.equal(next(0, 'UTC', '2026-01-10T00:00:00Z'), '2026-01-11T00:00:00.000Z')
  })
  it('is the end of the gap where the clocks go forward over it', () => {
    assert.equal(next(2, 'Europe/Berlin', '2026-03-28T12:00:00Z'), '2026-03-29T01:00:00.000Z') // 3:00 there
    assert.equal(next(2, 'Europe/Berlin', '2026-03-29T01:00:00Z'), '2026-03-30T00:00:00.000Z')
    assert.equal(next(7, 'Europe/Berlin', '2026-03-28T12:00:00Z'), '2026-03-29T05:00:00.000Z')
    assert.equal(next(0, 'Africa/Cairo', '2026-04-23T12:00:00Z'), '2026-04-23T22:00:00.000Z') // midnight is skipped
  })
  it('is the first of the two where they go back over it', () => {
    assert.equal(next(2, 'Europe/Berlin', '2026-10-24T12:00:00Z'), '2026-10-25T00:00:00.000Z')
    assert.equal(next(2, 'Europe/Berlin', '2026-10-25T00:00:00Z'), '2026-10-26T01:00:00.000Z')
    assert.equal(next(1, 'America/New_York', '2026-10-31T12:00:00Z'), '2026-11-01T05:00:00.000Z')
    assert.equal(next(1, 'America/New_York', '2026-11-01T05:30:00Z'), '2026-11-02T06:00:00.000Z')
    assert.equal(next(0, 'America/Havana', '2026-10-31T12:00:00Z'), '2026-11-01T04:00:00.000Z')
    assert.equal(next(0, 'America/Havana', '2026-11-01T04:30:00Z'), '2026-11-02T05:00:00.000Z')
  })
  it('comes exactly once on each day of a year, wherever', () => {
    for (const timeZone of [
      'Europe/Berlin',
      'America/Havana',
      'Africa/Cairo',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
    ]) {
      for (const hour of [0, 2, 3]) {
        let at = new Date('2026-01-01T12:00:00Z')
        const days = Array.from({ length: 366 }, () => {
          at = nextAt(hour, timeZone, at)
          return localTime(at, timeZone).day
        })
        assert.equal(new Set(days).size, 366, `${timeZone} ${hour}`)
        const first = Date.parse(days[0]!)
        assert.equal(Date.parse(days.at(-1)!) - first, 365 * 86_400_000, `${timeZone} ${hour}`)
      }
    }
  })
})

describe('a time zone', () => {
  it('has a name that Node knows', () => {
    for (const name of ['UTC', 'Europe/Berlin', 'America/Argentina/Buenos_Aires', 'Etc/GMT+5']) {
      assert.ok(isTimeZone(name), name)
    }
    for (const name of ['', '+01:00', 'Europe', 'Europe/Berlin ', '../UTC', 'Mars/Olympus', '\0', '/UTC']) {
      assert.ok(!isTimeZone(name), name)
    }
  })
})
