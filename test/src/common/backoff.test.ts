/** Waits between attempts grow, stay bounded, and follow the injected chance. */
import { expect, test } from 'vitest'
import { Backoff } from '../../../src/common/backoff.ts'

const always = (value: number) => ({ next: () => value, bytes: (length: number) => Buffer.alloc(length) })

test('waits double from the first to the bound and start again after a success', () => {
  const backoff = new Backoff({ initialMs: 50, maxMs: 500 }, always(0))
  expect(Array.from({ length: 6 }, () => backoff.next())).toEqual([50, 100, 200, 400, 500, 500])
  backoff.reset()
  expect(backoff.next()).toBe(50)
})

test('jitter takes away at most its share', () => {
  const options = { initialMs: 100, maxMs: 1000, jitter: 0.5 }
  expect(new Backoff(options, always(0.5)).next()).toBe(75)
  expect(new Backoff(options, always(0.999)).next()).toBeGreaterThanOrEqual(50)
  expect(new Backoff({ ...options, jitter: 0 }, always(0.9)).next()).toBe(100)
})

test('a million failures neither overflow nor exceed the bound', () => {
  const backoff = new Backoff({ initialMs: 1, maxMs: 300, factor: 10 }, always(0))
  for (let count = 0; count < 1_000_000; count += 1) backoff.next()
  expect(backoff.next()).toBe(300)
})

test('a first wait above the bound is bounded as well', () => {
  expect(new Backoff({ initialMs: 900, maxMs: 300 }, always(0)).next()).toBe(300)
})
