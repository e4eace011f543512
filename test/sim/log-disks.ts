/**
 * What the disks hold of an entry, byte by byte, as a power cut would leave them: where a frame of a known position
 * lies in the files of a node, and whether it is there. Asked by the judge; knows no replica and excuses nothing.
 */
import { isZero } from '../../store/frame.ts'
import { segmentName } from '../../store/segment.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import type { Machine } from './electorate.ts'
import { fileOffsetOf, type Place } from './rot.ts'

const nothing = Buffer.alloc(0)

export class LogDisks {
  readonly #segmentBytes: number
  /** By directory and base: naming a segment is dearer than looking at it. */
  readonly #paths = new Map<string, Map<number, string>>()

  constructor(segmentBytes: number) {
    this.#segmentBytes = segmentBytes
  }

  /** Intact and durable. */
  holds(node: Machine, { position, bytes }: Pick<Place, 'position' | 'bytes'>): boolean {
    return node.disk.isDurable(this.path(node, position), this.offsetOf(position), bytes)
  }

  /** The first segment of the log that would survive lies behind this position. `end`: of the longest log. */
  beginsBehind(node: Machine, position: number, end: number): boolean {
    for (let base = 0; base <= end; base += this.#segmentBytes) {
      if (node.disk.isDurable(this.#segment(node, base), 0, nothing)) return base > position
    }
    return false
  }

  /** Behind the tail there are only zeros. */
  isCleanBehind(node: Machine, end: number): boolean {
    const path = this.path(node, end)
    if (!node.disk.paths().includes(path)) return true
    return isZero(node.disk.contentOf(path).subarray(segmentHeaderBytes + (end % this.#segmentBytes)))
  }

  /** Of the segment with this position. */
  path(node: Machine, position: number): string {
    return this.#segment(node, position - (position % this.#segmentBytes))
  }

  /** In that segment. */
  offsetOf(position: number): number {
    return fileOffsetOf(position, this.#segmentBytes)
  }

  #segment(node: Machine, base: number): string {
    const directory = node.logDirectory
    let paths = this.#paths.get(directory)
    if (!paths) {
      paths = new Map()
      this.#paths.set(directory, paths)
    }
    let path = paths.get(base)
    if (path === undefined) {
      path = `${directory}/${segmentName(base)}`
      paths.set(base, path)
    }
    return path
  }
}
