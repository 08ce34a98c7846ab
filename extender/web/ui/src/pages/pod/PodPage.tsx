export default function PodPage() { return <h1>PodPage</h1> }
