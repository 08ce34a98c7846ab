export default function PodsPage() { return <h1>PodsPage</h1> }
