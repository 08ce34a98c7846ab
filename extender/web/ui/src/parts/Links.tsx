import { Link } from 'react-router'

/** "namespace/name" -> both. */
export function splitPod(pod: string): [string, string] {
  const at = pod.indexOf('/')
  return at < 0 ? ['default', pod] : [pod.slice(0, at), pod.slice(at + 1)]
}

/** The address of a pod's page. */
export function podPath(pod: string): string {
  const [namespace, name] = splitPod(pod)
  return `/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`
}

export const nodePath = (name: string, gpus: readonly number[] = []): string =>
  `/nodes/${encodeURIComponent(name)}${gpus.length > 0 ? `?gpus=${gpus.join(',')}` : ''}`

export function PodLink({ pod }: { pod: string }) {
  return (
    <Link to={podPath(pod)} className="name">
      {pod}
    </Link>
  )
}

export function NodeLink({ node, gpus }: { node: string; gpus?: readonly number[] }) {
  return (
    <Link to={nodePath(node, gpus)} className="name">
      {node}
    </Link>
  )
}

export function DecisionLink({ id, children }: { id: string; children?: string }) {
  return <Link to={`/decisions/${encodeURIComponent(id)}`}>{children ?? 'decision'}</Link>
}
