/**
 * The hash by which queues are filtered before a tag is looked at. Used by the batch format and by filters.
 */

/** Java's String.hashCode over UTF-16 units, as RocketMQ stores it for a tag; 0 for no tag. Signed 32 bits. */
export function tagHash(tag: string): number {
  let hash = 0
  for (let i = 0; i < tag.length; i++) hash = (Math.imul(hash, 31) + tag.charCodeAt(i)) | 0
  return hash
}
