/**
 * Filters by tag (RocketMQ: SubscriptionData of type TAG): `*`, or `a || b`. Pure; used by brokers, which look at
 * record heads and never unpack a body, and by whoever else chooses messages.
 */
import { LedgerError } from '../common/errors.ts'
import { tagBytesMax } from './limits.ts'
import { tagHash } from './tag-hash.ts'

/** Tags of one expression. */
export const tagsPerFilterMax = 256

export type TagFilter =
  | { readonly kind: 'all' }
  /** Tags by their hash: most messages are told apart without reading their tag. */
  | { readonly kind: 'tags'; readonly byHash: ReadonlyMap<number, readonly string[]> }

/** What a filter looks at. */
export interface TaggedRecord {
  readonly tagHash: number
  readTag(): string
}

export const everyTag: TagFilter = { kind: 'all' }

/** Empty means `*`. Throws INVALID_PARAMETER, naming what is wrong. */
export function parseTagFilter(expression: string): TagFilter {
  if (typeof expression !== 'string') throw wrong('must be a text')
  const text = expression.trim()
  if (text === '' || text === '*') return everyTag
  const tags = [...new Set(text.split('||').map((part) => part.trim()))].filter((tag) => tag !== '')
  if (tags.length === 0) throw wrong('names no tag')
  if (tags.length > tagsPerFilterMax) throw wrong(`names ${tags.length} tags, at most ${tagsPerFilterMax} are allowed`)
  const byHash = new Map<number, readonly string[]>()
  for (const tag of tags) {
    if (tag === '*') throw wrong('names * among tags')
    if (tag.includes('|')) throw wrong('holds a single |; tags are divided by ||')
    if (Buffer.byteLength(tag) > tagBytesMax) throw wrong(`holds a tag of more than ${tagBytesMax} bytes`)
    const hash = tagHash(tag)
    byHash.set(hash, [...(byHash.get(hash) ?? []), tag])
  }
  return { kind: 'tags', byHash }
}

/** Two tags may share a hash: the tag itself decides. */
export function matchesTag(filter: TagFilter, record: TaggedRecord): boolean {
  if (filter.kind === 'all') return true
  return filter.byHash.get(record.tagHash)?.includes(record.readTag()) ?? false
}

function wrong(problem: string): LedgerError {
  return new LedgerError('INVALID_PARAMETER', `the filter expression ${problem}`)
}
